"""EVTP-video: farthest-first selection over all frames of a clip at once, on features, grid position and time."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Selection, VisualTokens, kcenter
from leanseg.core.joint import JointSpace
from leanseg.core.kcenter.weighted import farthest_weighted
from leanseg.errors import SpecError
from leanseg.pruners._chance import check_seed
from leanseg.pruners._start import check_start, first_pick
from leanseg.pruners.base import Pruner
from leanseg.shapes import Int, Tensor


@dataclass(frozen=True, kw_only=True)
class EVTPVideo(Pruner):
    """Keep tokens that cover a whole clip, in what they show, where they lie and when: EVTP over all frames at once.

    One joint row (1, T*N): e_i = [v_i, lambda c_i, lambda_t t_i] with the statistics of v taken over the window and t
    from 0 in its first frame to 1 in its last, so that lambda_t, like lambda, does not depend on how many frames there
    are; then greedy k-center. Frames that show something new get more tokens, still ones fewer; the T*N budget is the
    clip's. With one frame this is EVTP exactly.

    Fields beside EVTP's: `time_weight` fixes lambda_t (0 = a cell that stays as it is counts once for the whole clip);
    None = tau / (sigma_t sigma_f), as for space. `key_share` (0 to 1): at every count t at least ceil(key_share t) of
    the picks lie in the frame that is segmented, `VisualTokens.key_frame`, as long as it has so many; `start` then
    speaks of that frame's tokens alone. None = the key frame has no claim: without time, a key frame of a still clip
    can be left with no token at all, so that `time_weight` 0 should not go without a share.

    Nested, also with a share. The joint radius is within twice the best of any K tokens in e-space without a share
    only. Cost O(min(K, T N) T N D): T times that of T single frames at the same ratio.

    Ours: it answers what the paper leaves open, the consistency over time, as its text prunes each frame by itself. Not
    claimed: that a joint budget segments better, or that tokens of the segmented frame may be dropped for looking like
    another frame's; `key_share` is there because they may not.
    """

    name: ClassVar[str] = "evtp_video"
    paper: ClassVar[str] = "ours; EVTP-IVS (WACV 2026) with time as a coordinate"
    licence: ClassVar[str] = "not applicable"
    extension: ClassVar[bool] = True
    nested: ClassVar[bool] = True
    scope: ClassVar[str] = "clip"

    tau: float = 1.0
    spatial_weight: float | None = None
    time_weight: float | None = None
    key_share: float | None = None
    lambda_rule: str = "inverse_std"
    normalize: str = "center_scale"
    start: int | str = "mean"
    seed: int = 0

    def check(self) -> None:
        """Check the fields."""
        check_start(self.start)
        check_seed(self.seed)
        share = self.key_share
        if share is not None and (not isinstance(share, float) or not 0.0 <= share <= 1.0):
            raise SpecError(
                f"key_share is {share!r}; it must lie in 0..1: the part of the kept tokens that is owed to the key "
                "frame, or be None"
            )
        _ = self.space

    @property
    def space(self) -> JointSpace:
        """The joint space in which this pruner measures distance."""
        return JointSpace(
            tau=self.tau,
            spatial_weight=self.spatial_weight,
            time_weight=self.time_weight,
            lambda_rule=self.lambda_rule,
            normalize=self.normalize,
        )

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Run greedy k-center over the frames in the joint space."""
        if self.key_share and tokens.grid.frames > 1:
            order = self._with_share(tokens, self.space.embed(tokens).points, k, self.key_share)
        else:
            sketch = self.space.sketch(tokens)
            first = first_pick(self.start, self.seed, tokens, sketch.points, sketch.around)
            order, _ = kcenter.select(sketch.points, k, first, extra=sketch.extra)
        return Selection.from_order(order.to(tokens.features.device), tokens.n_tokens)

    def _with_share(self, tokens: VisualTokens, points: Tensor, k: int, share: float) -> Int[Tensor, "b k"]:
        n_frame = tokens.grid.frame.n_tokens
        first = tokens.key_frame * n_frame
        frame = slice(first, first + n_frame)
        alone = VisualTokens(features=tokens.features[:, frame], grid=tokens.grid.frame)
        starts = first + first_pick(self.start, self.seed, alone, points[:, frame])
        owed = torch.zeros(tokens.n_tokens, dtype=torch.bool)
        owed[frame] = True
        return farthest_weighted(points, k, starts, owed=owed, share=share)
