from pathlib import Path

import numpy as np
import pytest
import torch

from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.prompt import TASKS, prompt_text
from leanseg.models.instructseg.tokenizer import train_tokenizer
from leanseg.models.presets import PRESETS


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of the smallest size, with weights drawn at random."""
    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = train_tokenizer([prompt_text(task) for task in TASKS], vocab_size=300)
        InstructSeg(PRESETS["tiny"], tokenizer=tokenizer).save_pretrained(folder)
    return folder
