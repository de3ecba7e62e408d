"""Archives of weights: what they may say about tensors that they do not hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from leanseg.errors import WeightsError
from leanseg.models.weight_files import open_weights

CPU = torch.device("cpu")


def _saved(folder: Path, **tensors: Tensor) -> Path:
    path = folder / "pytorch_model.bin"
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    "hollow",
    [torch.zeros(1).expand(100_000, 256), torch.arange(9.0).as_strided((6, 6), (1, 0)), torch.zeros(3)[:1].expand(4)],
    ids=["one number", "one column", "beyond a slice"],
)
def test_a_shape_without_its_numbers_is_refused_before_it_is_read(tmp_path: Path, hollow: Tensor):
    path = _saved(tmp_path, whole=torch.zeros(4), table=hollow)
    for given in (path, tmp_path):
        with pytest.raises(WeightsError, match=r"holds 1 tensors of more numbers than it stores for them \(table\)"):
            open_weights(given)


def test_one_storage_under_very_many_names_is_refused(tmp_path: Path):
    shared = torch.zeros(10_000)
    path = _saved(tmp_path, **{f"layer{number}": shared for number in range(100)})
    assert path.stat().st_size < 100_000
    with pytest.raises(WeightsError, match=r"its tensors would take 4000000; expected at most 4 times the file"):
        open_weights(path)


def test_tied_weights_slices_and_other_orders_load_as_copies(tmp_path: Path):
    table, wide = torch.randn(300, 8), torch.randn(40, 50)
    tensors = {
        "embedding": table, "lm_head": table, "third": table, "turned": wide.T, "slice": wide[3:7, ::2],
        "scalar": torch.tensor(2.0), "none": torch.zeros(0, 5), "parameter": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip
    loaded = dict(open_weights(_saved(tmp_path, **tensors)).read(tensors, CPU))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert len({tensor.data_ptr() for name, tensor in loaded.items() if name != "none"}) == len(tensors) - 1
