"""How long it takes to choose tokens: the engine of k-center, its rivals, every method, and received attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch

from leanseg.core import Grid, VisualTokens, kcenter
from leanseg.core.attention import received_attention
from leanseg.core.kcenter import reference
from leanseg.engine.bench import published
from leanseg.engine.bench.first_call import first_call_seconds
from leanseg.engine.bench.points import KINDS, joint_points, tokens
from leanseg.engine.bench.select_tables import KIND
from leanseg.engine.bench.timing import one_thread, peak_bytes, timed
from leanseg.engine.records import record
from leanseg.pruners import PRUNERS
from leanseg.shapes import Tensor

Sample = dict[str, Any]
Way = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is timed: a clip is `frames` pictures of `side` x `side` tokens, chosen from at once."""

    side: int = 27
    frames: tuple[int, ...] = (1, 2, 4)
    kept: tuple[int, ...] = (36, 73, 146)
    ratio: float = 0.2
    width: int = 1152
    heads: int = 16
    budget_s: float = 1.0

    @property
    def picture(self) -> Grid:
        """The grid of one picture."""
        return Grid(self.side, self.side)

    @property
    def clip(self) -> Grid:
        """The grid of the longest clip."""
        return Grid(self.side, self.side, frames=self.frames[-1])

    def grids(self) -> list[tuple[Grid, int]]:
        """Return the grids with how many tokens to keep: every K of one picture, then the ratio of each clip."""
        rows = [(self.picture, k) for k in self.kept]
        for frames in self.frames:
            grid = Grid(self.side, self.side, frames=frames)
            wanted = round(self.ratio * grid.n_tokens)
            rows += [(grid, wanted)] if (grid, wanted) not in rows else []
        half = Grid(max(2, self.side // 2), max(2, self.side // 2))
        return [*rows, (half, max(1, round(self.ratio * half.n_tokens)))]


QUICK = Sizes(side=6, frames=(1, 2), kept=(4, 7), width=24, heads=2, budget_s=0.005)


def measure_select(
    sizes: Sizes | None = None, *, command: str = "leanseg bench select", tick: Callable[[str], object] = str
) -> dict[str, Any]:
    """Return the record; `tick` hears the name of what is timed next.

    What fails is a sample with an `error` in it, so that one method does not cost the record of the others.
    """
    made = Sizes() if sizes is None else sizes
    samples: list[Sample] = []
    with one_thread():
        for part in (_engines, _starts, _methods, _published, _batches, _attention, _cuda):
            for facts, measure in part(made):
                tick(facts["name"])
                samples.append({**facts, **_tried(measure)})
    return record(
        KIND,
        command,
        threads=1,
        sizes={"side": made.side, "frames": list(made.frames), "width": made.width, "budget_s": made.budget_s},
        first_call_s=first_call_seconds(),
        samples=samples,
    )


Task = tuple[Sample, Callable[[], Sample]]


def _tried(measure: Callable[[], Sample]) -> Sample:
    # Whatever a method under test raises is a result of the benchmark.
    try:
        return measure()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}


def rivals() -> dict[str, Way]:
    """Return every way to farthest-first on points (N, D) from point 0; fpsample only where it is installed."""
    ways: dict[str, Way] = {
        "leanseg": _leanseg,
        "leanseg, without numba": _without_numba,
        "torch Gram matrix, running minimum": published.gram_running_minimum,
        "torch product per pick": published.product_per_pick,
        "full matrix, selected rows read again": published.matrix_reread,
        "explicit differences per pick": published.all_differences,
    }
    with suppress(ImportError):
        ways["fpsample"] = partial(_fpsample, import_module("fpsample"))
    return ways


def _leanseg(points: Tensor, k: int) -> Tensor:
    return kcenter.select(points[None], k)[0][0]


def _without_numba(points: Tensor, k: int) -> Tensor:
    return reference.farthest_first(points[None], k, torch.zeros(1, dtype=torch.int64))[0][0]


def _fpsample(module: Any, points: Tensor, k: int) -> Tensor:
    return torch.from_numpy(module.fps_sampling(points.numpy(), k, start_idx=0).astype("int64"))


def _engines(sizes: Sizes) -> Iterator[Task]:
    for kind in KINDS:
        for grid, k in sizes.grids():
            points = joint_points(kind, grid, sizes.width)
            for name, way in rivals().items():
                facts = {
                    "part": "engines",
                    "name": name,
                    "points": kind,
                    "n": len(points),
                    "d": points.shape[1],
                    "k": k,
                }
                yield facts, partial(_compared, way, points, k, sizes.budget_s)


def _compared(way: Way, points: Tensor, k: int, budget_s: float) -> Sample:
    """Count on how many picks, from the first on, both agree; then time."""
    same = (way(points, k) == _leanseg(points, k)).to(torch.int64).cumprod(dim=0)
    return {"picks_agreed": int(same.sum()), **timed(partial(way, points, k), budget_s=budget_s)}


def _starts(sizes: Sizes) -> Iterator[Task]:
    ways = {"most isolated": kcenter.isolated, "most isolated, without numba": reference.most_isolated}
    for kind in KINDS:
        for grid in (sizes.picture, sizes.clip):
            features = tokens(kind, grid, sizes.width).features
            unit = features / features.norm(dim=2, keepdim=True)
            for name, way in ways.items():
                facts = {"part": "starts", "name": name, "points": kind, "n": grid.n_tokens, "d": sizes.width}
                yield facts, partial(timed, partial(way, unit), budget_s=sizes.budget_s)


def _methods(sizes: Sizes) -> Iterator[Task]:
    clip = sizes.clip
    runs = [(sizes.picture, k) for k in sizes.kept] + [(clip, round(sizes.ratio * clip.n_tokens))]
    for name, kind in PRUNERS.items():
        for grid, k in runs:
            scene = tokens("smooth", grid if kind.scope == "clip" else _flat(grid), sizes.width)
            facts = {"part": "methods", "name": name, "points": "smooth", "n": grid.n_tokens, "d": sizes.width, "k": k}
            yield facts, partial(_pruned, kind, scene, k, sizes.budget_s)


def _flat(grid: Grid) -> Grid:
    """Return one picture as large as a clip, for methods that know no time."""
    return Grid(grid.frames * grid.height, grid.width)


def _pruned(kind: type[Any], scene: VisualTokens, k: int, budget_s: float) -> Sample:
    pruner = kind(keep_ratio=k / scene.n_tokens)
    kept = pruner(scene).indices.shape[1]
    return {"kept": kept, **timed(partial(pruner, scene), budget_s=budget_s)}


def _published(sizes: Sizes) -> Iterator[Task]:
    for grid, k in ((sizes.picture, sizes.kept[-1]), (sizes.clip, round(sizes.ratio * sizes.clip.n_tokens))):
        scene = tokens("smooth", _flat(grid), sizes.width)
        for name in ("divprune", "vispruner"):
            facts = {
                "part": "published",
                "name": name,
                "points": "smooth",
                "n": grid.n_tokens,
                "d": sizes.width,
                "k": k,
            }
            yield facts, partial(_agreeing, name, scene, k, sizes.budget_s)


def _agreeing(name: str, scene: VisualTokens, k: int, budget_s: float) -> Sample:
    """Count how many kept tokens the published loop and the registered method agree on; then time the former."""
    features, attention = scene.features[0], scene.attention
    ways: dict[str, Callable[[], Tensor]] = {"divprune": partial(published.divprune, features, k)}
    if attention is not None:
        ways["vispruner"] = partial(published.vispruner, features, attention[0], k)
    ours = PRUNERS[name](keep_ratio=k / scene.n_tokens)(scene).indices[0]
    return {"kept_agreed": int(torch.isin(ways[name](), ours).sum()), **timed(ways[name], budget_s=budget_s)}


def _batches(sizes: Sizes) -> Iterator[Task]:
    points, k = joint_points("smooth", sizes.picture, sizes.width), sizes.kept[-1]
    for batch in (1, 4):
        facts = {"part": "batches", "name": "leanseg", "points": "smooth", "n": len(points), "k": k, "batch": batch}
        yield (
            facts,
            partial(timed, partial(kcenter.select, points[None].repeat(batch, 1, 1), k), budget_s=sizes.budget_s),
        )


def _attention(sizes: Sizes) -> Iterator[Task]:
    n_tokens, head_width = sizes.picture.n_tokens, max(1, sizes.width // sizes.heads)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, sizes.heads, n_tokens, head_width, generator=generator)
    for name, way in (("in chunks", received_attention), ("eager", published.received_attention)):
        facts = {"part": "attention", "name": name, "n": n_tokens, "d": head_width, "heads": sizes.heads}
        yield facts, partial(_received, way, q, k, sizes.budget_s)


def _received(way: Callable[[Tensor, Tensor], Tensor], q: Tensor, k: Tensor, budget_s: float) -> Sample:
    difference = float((way(q, k) - published.received_attention(q, k)).abs().max())
    peak_mib = round(peak_bytes(partial(way, q, k)) / 2**20, 2)
    return {"largest_difference": difference, "peak_mib": peak_mib, **timed(partial(way, q, k), budget_s=budget_s)}


def _cuda(sizes: Sizes) -> Iterator[Task]:
    if not torch.cuda.is_available():
        return
    from leanseg.engine.bench.cuda import measured_on_cuda

    for grid, k in sizes.grids():
        points = joint_points("smooth", grid, sizes.width).cuda()
        for batch in (1, 4):
            facts = {"part": "cuda", "name": torch.cuda.get_device_name(), "n": len(points), "k": k, "batch": batch}
            yield facts, partial(measured_on_cuda, partial(kcenter.select, points[None].repeat(batch, 1, 1), k))
