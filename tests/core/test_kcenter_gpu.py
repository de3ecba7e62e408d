import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from tests.core.test_kcenter_engines import KINDS, made

from leanseg.core import kcenter
from leanseg.core.kcenter import reference

# In a process of its own: the interpreter is chosen when Triton is imported, and reads plain functions only.
_INTERPRETED = """
import torch
from leanseg.core.kcenter import gpu, reference
from tests.core.test_kcenter_engines import KINDS, made

starts = torch.tensor([3, 0])
for kind in KINDS:
    for seed, n_points, width, k in ((0, 20, 5, 12), (1, 17, 70, 17), (2, 9, 3, 1)):
        points = made(kind, seed, n_points, width).repeat(2, 1, 1)
        points[1] = points[1].flip(0)
        nothing = points.new_zeros((2, n_points, 0), dtype=torch.float64)
        order, radius = gpu.farthest_first(points, nothing, k, starts)
        expected, expected_radius = reference.farthest_first(points, k, starts)
        assert torch.equal(order, expected), (kind, seed)
        torch.testing.assert_close(radius, expected_radius, rtol=1e-9, atol=0.0)
points = made("cloud", 0, 10, 3).repeat(3, 1, 1)
points[0, 2, 1] = torch.nan
nothing = points.new_zeros((3, 10, 0), dtype=torch.float64)
order, radius = gpu.farthest_first(points, nothing, 4, torch.tensor([0, 10, 2]))
assert radius.isnan().all(dim=1).tolist() == [True, True, False]
assert bool(((order >= 0) & (order < 10)).all())
"""

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernel_picks_what_the_reference_picks_in_the_interpreter():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", _INTERPRETED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@needs_cuda
@pytest.mark.parametrize("kind", KINDS)
def test_a_cuda_device_picks_what_the_processor_picks(kind):
    points = made(kind, 1, 200, 70).repeat(3, 1, 1)
    starts = torch.tensor([0, 7, 199])
    order, radius = kcenter.select(points.cuda(), 60, starts.cuda())
    expected, expected_radius = reference.farthest_first(points, 60, starts)
    assert torch.equal(order.cpu(), expected)
    torch.testing.assert_close(radius.cpu(), expected_radius, rtol=1e-9, atol=0.0)
    assert torch.equal(kcenter.isolated(points.cuda()).cpu(), reference.most_isolated(points))


@needs_cuda
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_on_a_cuda_device_the_host_never_waits():
    points = made("cloud", 1, 200, 70).cuda()
    kcenter.select(points, 60)
    torch.cuda.set_sync_debug_mode("error")
    try:
        kcenter.select(points, 60)
    finally:
        torch.cuda.set_sync_debug_mode("default")
