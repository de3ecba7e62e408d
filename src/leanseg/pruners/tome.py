"""ToMe: similar tokens are merged, a half at a time, until so many are left."""

from dataclasses import dataclass
from typing import ClassVar

from leanseg.core import Selection, VisualTokens
from leanseg.core.merging import Merged, match, merge_average
from leanseg.core.similarity import precise
from leanseg.errors import SpecError, unknown_name
from leanseg.pruners.base import Pruner
from leanseg.shapes import Float, Tensor

METRICS = ("keys", "features")


@dataclass(frozen=True, kw_only=True)
class ToMe(Pruner):
    """Merge the most similar tokens into one by bipartite soft matching, in rounds, at the end of the encoder.

    While n > K tokens are left, the r = min(n - K, n // 2) best pairs merge: tokens at even places look for the most
    similar at odd ones by cosine. A merged token is the average of all that went into it, x = sum(size x) / sum(size),
    and so is its key in the next round. 729 -> 146 merges 364, 182 and 37. Cost O(N^2 D).

    `metric`: "keys", the attention keys of the last used layer averaged over heads, as in the paper; or "features",
    which needs no cue. A slot's index is the token that the others of its group were merged into; `owner` tells the
    group of every token, and nothing is dropped.

    Differs from the paper: merging inside the encoder, layer by layer with proportional attention, is
    `leanseg.hf.merging`; here all merging happens at its output, as papers that compare pruners of visual tokens do.
    One call merges half of the tokens at most, so that smaller budgets need rounds; the paper does not say which.

    Differs from the reference: slots come in raster order and not in that of the matching (which a language model would
    take for positions); cosines in float64 with stable sorts; a row of zeros is similar to none instead of NaN.
    """

    name: ClassVar[str] = "tome"
    cues: ClassVar[tuple[str, ...]] = ("keys",)
    paper: ClassVar[str] = "arXiv 2210.09461 (ToMe, ICLR 2023)"
    licence: ClassVar[str] = "CC BY-NC 4.0, code not opened"
    merges: ClassVar[bool] = True

    metric: str = "keys"

    def check(self) -> None:
        """Check the metric; the features need no cue."""
        if self.metric not in METRICS:
            raise SpecError(unknown_name("metric", str(self.metric), METRICS))
        self._declare(cues=("keys",) if self.metric == "keys" else ())

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Merge in rounds down to `k` tokens."""
        return merge_in_rounds(tokens.features, tokens.keys if self.metric == "keys" else None, k).selection()


def merge_in_rounds(features: Float[Tensor, "b n d"], keys: Float[Tensor, "b n dk"] | None, k: int) -> Merged:
    """Merge down to `k` tokens, matched by `keys`, which are averaged along, or by the features where there are none.

    >>> import torch
    >>> merge_in_rounds(torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]]), None, 2).owner.tolist()
    [[1, 1, 0]]
    """
    # Averages of averages: rounded to the features' type once, at the end.
    merged = Merged.start(precise(features))
    metric = None if keys is None else precise(keys)
    while merged.position.shape[1] > k:
        n_tokens = merged.position.shape[1]
        pairs = match(merged.features if metric is None else metric, min(n_tokens - k, n_tokens // 2))
        if metric is not None:
            metric, _ = merge_average(metric, merged.sizes, pairs)
        merged = merged.then(pairs)
    return merged.with_features(merged.features.to(features.dtype))
