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


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A model of the smallest size, with weights drawn at random."""
    import torch

    from leanseg.models.instructseg.model import InstructSeg
    from leanseg.models.instructseg.prompt import TASKS, prompt_text
    from leanseg.models.instructseg.tokenizer import train_tokenizer
    from leanseg.models.presets import PRESETS

    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = train_tokenizer([prompt_text(task) for task in TASKS], vocab_size=300)
        InstructSeg(PRESETS["tiny"], tokenizer=tokenizer).save_pretrained(folder)
    return folder
