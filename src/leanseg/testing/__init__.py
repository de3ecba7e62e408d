"""What a pruner must obey, as a check that users run on their own methods."""

from leanseg.testing.laws import check_pruner
from leanseg.testing.samples import sample_tokens

__all__ = ["check_pruner", "sample_tokens"]
