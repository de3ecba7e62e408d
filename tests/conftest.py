"""What every test shares: few threads, so that numbers and times do not depend on how many cores there are."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def two_threads():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(2, before))
    yield
    torch.set_num_threads(before)
