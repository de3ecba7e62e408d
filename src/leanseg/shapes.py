"""Shape annotations of tensors, in one place.

Letters: `b` batch (frames of a clip, or pictures), `n` visual tokens, `k` kept tokens, `d` feature width; a star stands
for any further axes, and a leading space keeps linters from reading a name as code. The annotations are checked at run
time in the tests only, through jaxtyping's import hook.
"""

from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Shaped", "Tensor"]
