import subprocess
import sys

import pytest

from leanseg import metrics


def test_masks_are_measured_without_torch():
    code = "import sys; from leanseg import metrics as m; m.GIoU, m.paired_bootstrap; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scipy_is_loaded_when_a_distribution_is_asked_for():
    code = (
        "import sys; from leanseg import metrics as m; m.compare, m.pareto; m.paired_bootstrap([1, 2], [2, 1]);"
        "m.pearson([1, 2], [2, 1]); early = 'scipy' in sys.modules; m.paired_t([1, 2], [2, 1]);"
        "sys.exit(early or 'scipy.special' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_name_is_there():
    assert dir(metrics) == sorted(metrics.__all__)
    assert all(getattr(metrics, name) is not None for name in metrics.__all__)
    assert metrics.coverage.coverage and metrics.significance.Interval is metrics.Interval
    with pytest.raises(AttributeError, match="has no attribute 'iou'"):
        _ = metrics.iou


def test_every_protocol_is_there():
    assert dir(metrics.protocols) == sorted(metrics.protocols.__all__)
    assert all(getattr(metrics.protocols, name) is not None for name in metrics.protocols.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'davis2016'"):
        _ = metrics.protocols.davis2016
