"""The laws that every pruner obeys, each as one function; `check_pruner` runs them all."""

import dataclasses
import pickle
from collections.abc import Callable, Sequence

import torch

from leanseg.core import Grid, Selection, VisualTokens, keep_count
from leanseg.errors import LeansegError
from leanseg.pruners import PRUNERS, WRAPPERS, Pruner, pruner
from leanseg.testing.samples import KINDS, sample_tokens

GRIDS = (Grid(1, 1), Grid(1, 5), Grid(4, 4), Grid(7, 3), Grid(27, 27))
CLIP_GRIDS = (Grid(3, 4, frames=3),)
KEEP_RATIOS = (0.05, 0.1, 0.2, 0.5, 1.0)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

Make = Callable[[float], Pruner]


def check_pruner(
    method: type[Pruner] | Callable[..., Pruner],
    *,
    grids: Sequence[Grid] = GRIDS,
    keep_ratios: Sequence[float] = KEEP_RATIOS,
    dtypes: Sequence[torch.dtype] = DTYPES,
    device: torch.device | str = "cpu",
) -> None:
    """Raise `AssertionError` naming the law, the grid and the budget, if `method` breaks one.

    `method` is a `Pruner` class, or a function of `keep_ratio` that returns a pruner; one of scope "clip" is tried on a
    clip of three frames as well. Laws: exact counts; indices unique, ascending, int64, on the input's device;
    deterministic; global random state untouched; each row as if it were alone, bit for bit on CPU; inputs unmodified;
    keep_ratio 1 is the identity; ties, constant, duplicated and zero features still give unique tokens; NaN and
    infinity are refused; every dtype runs, and float64 picks what float32 picks; spec string and pickle round trips;
    each slot owns itself; a nested method's prefix is its smaller run.

    >>> from leanseg.pruners import EVTP
    >>> check_pruner(EVTP, grids=[Grid(4, 4)], keep_ratios=[0.2])
    """

    def make(keep_ratio: float) -> Pruner:
        return method(keep_ratio=keep_ratio)

    if grids is GRIDS and make(keep_ratios[0]).scope == "clip":
        grids = (*CLIP_GRIDS, *GRIDS)
    for grid in grids:
        for keep_ratio in keep_ratios:
            for law in (_counts, _repeats, _rows_alone, _dtypes, _degenerate, _nested):
                _run(law, make, grid, keep_ratio, dtypes, device)
        _run(_refuses_nan, make, grid, keep_ratios[0], dtypes, device)
    _round_trips(make(keep_ratios[0]))


def _run(
    law: Callable[[Make, Grid, float, Sequence[torch.dtype], torch.device | str], None],
    make: Make,
    grid: Grid,
    keep_ratio: float,
    dtypes: Sequence[torch.dtype],
    device: torch.device | str,
) -> None:
    try:
        law(make, grid, keep_ratio, dtypes, device)
    except AssertionError as broken:
        frames = f"{grid.frames} x " if grid.frames > 1 else ""
        where = f"{make(keep_ratio).spec()} on a {frames}{grid.height} x {grid.width} grid"
        raise AssertionError(f"{where}: {broken}") from broken


def _tokens(
    made: Pruner, grid: Grid, device: torch.device | str, kind: str = "random", dtype: torch.dtype = torch.float32
) -> VisualTokens:
    """Three rows, or one where the method takes a clip as one joint row or its count depends on the row."""
    batch = 3 if made.scope == "frame" and made.fixed_budget else 1
    return _moved(sample_tokens(grid, batch=batch, kind=kind, dtype=dtype), lambda tensor: tensor.to(device))


def _moved(tokens: VisualTokens, change: Callable[[torch.Tensor], torch.Tensor]) -> VisualTokens:
    attention, keys, guidance = (
        None if cue is None else change(cue) for cue in (tokens.attention, tokens.keys, tokens.guidance)
    )
    return VisualTokens(
        features=change(tokens.features),
        grid=tokens.grid,
        attention=attention,
        keys=keys,
        guidance=guidance,
        key_frame=tokens.key_frame,
    )


def _law(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _check_selection(made: Pruner, tokens: VisualTokens, selection: Selection) -> None:
    n_tokens = tokens.n_tokens
    _law(selection.n_tokens == n_tokens, f"the selection is over {selection.n_tokens} tokens, not {n_tokens}")
    if made.fixed_budget:
        expected = keep_count(n_tokens, made.keep_ratio)
        _law(selection.k == expected, f"kept {selection.k} of {n_tokens} tokens, not {expected}")
    else:
        most = made.count(n_tokens)
        _law(1 <= selection.k <= most, f"kept {selection.k} of {n_tokens} tokens, not 1 to {most}")
    indices = selection.indices
    _law(indices.dtype == torch.int64, f"indices are {indices.dtype}, not int64")
    _law(indices.device == tokens.features.device, f"indices are on {indices.device}")
    _law(bool((indices[:, 1:] > indices[:, :-1]).all()), "indices are not unique and ascending")
    _law(bool(((indices >= 0) & (indices < n_tokens)).all()), "indices are out of range")
    if selection.owner is not None:
        owner = selection.owner
        slots = torch.arange(selection.k, device=owner.device).expand_as(indices)
        _law(bool(((owner >= -1) & (owner < selection.k)).all()), "owner is out of range")
        _law(torch.equal(owner.gather(1, indices), slots), "a slot does not own itself")
    _law(made.merges or selection.features is None, "merged features from a method that says it does not merge")
    if made.keep_ratio == 1.0:
        _law(selection.k == n_tokens and selection.features is None, "keep_ratio 1 is not the identity")


def _counts(make: Make, grid: Grid, keep_ratio: float, _: Sequence[torch.dtype], device: torch.device | str) -> None:
    made = make(keep_ratio)
    tokens = _tokens(made, grid, device)
    _check_selection(made, tokens, made(tokens))


def _repeats(make: Make, grid: Grid, keep_ratio: float, _: Sequence[torch.dtype], device: torch.device | str) -> None:
    made = make(keep_ratio)
    tokens = _tokens(made, grid, device)
    copy = _moved(tokens, torch.Tensor.clone)
    before = torch.random.get_rng_state()
    first = made(tokens)
    _law(torch.equal(torch.random.get_rng_state(), before), "the global random state was touched")
    _law(made(tokens).equals(first), "a second run gave another selection")
    _law(make(keep_ratio)(copy).equals(first), "an equal pruner on equal tokens gave another selection")
    for name in ("features", "attention", "keys", "guidance"):
        _law(torch.equal(getattr(tokens, name), getattr(copy, name)), f"the input's {name} were modified")


def _rows_alone(
    make: Make, grid: Grid, keep_ratio: float, _: Sequence[torch.dtype], device: torch.device | str
) -> None:
    made = make(keep_ratio)
    tokens = _tokens(made, grid, device)
    together = made(tokens)
    for row in range(tokens.batch):
        alone, within = made(tokens.row(row)), together.row(row)
        same = alone.equals(within) if str(device) == "cpu" else torch.equal(alone.indices, within.indices)
        _law(same, f"row {row} of a batch of {tokens.batch} differs from the row alone")


def _dtypes(
    make: Make, grid: Grid, keep_ratio: float, dtypes: Sequence[torch.dtype], device: torch.device | str
) -> None:
    made = make(keep_ratio)
    reference = _tokens(made, grid, device)
    for dtype in dtypes:
        tokens = _moved(reference, lambda tensor, dtype=dtype: tensor.to(dtype))  # type: ignore[misc]
        selection = made(tokens)
        _check_selection(made, tokens, selection)
        if dtype == torch.float64:
            _law(
                torch.equal(selection.indices, made(reference).indices), "float64 and float32 tokens differ in indices"
            )
        if selection.features is not None:
            _law(selection.features.dtype == dtype, f"merged features are {selection.features.dtype}, not {dtype}")


def _degenerate(
    make: Make, grid: Grid, keep_ratio: float, _: Sequence[torch.dtype], device: torch.device | str
) -> None:
    made = make(keep_ratio)
    for kind in KINDS:
        tokens = _tokens(made, grid, device, kind)
        try:
            _check_selection(made, tokens, made(tokens))
        except AssertionError as broken:
            raise AssertionError(f"{kind} features: {broken}") from broken


def _nested(make: Make, grid: Grid, keep_ratio: float, _: Sequence[torch.dtype], device: torch.device | str) -> None:
    made = make(keep_ratio)
    tokens = _tokens(made, grid, device)
    large = made(tokens)
    if not made.nested or large.k == grid.n_tokens:
        return
    _law(large.order is not None, "a nested method must give the order of its picks")
    for smaller in sorted({1, (large.k + 1) // 2, large.k}):
        small = made.select(tokens, smaller)
        _law(large.prefix(smaller).equals(small), f"the first {smaller} picks are not the run with {smaller}")


def _refuses_nan(
    make: Make, grid: Grid, keep_ratio: float, _: Sequence[torch.dtype], device: torch.device | str
) -> None:
    made = make(keep_ratio)
    for poison in (float("nan"), float("inf")):
        features = sample_tokens(grid).features.to(device)
        features[0, -1, 0] = poison
        try:
            made(VisualTokens(features=features, grid=grid))
        except LeansegError as refused:
            _law(
                "NaN or infinite" in str(refused), f"{poison} is refused by a message that does not name it: {refused}"
            )
        else:
            raise AssertionError(f"{poison} among the features was accepted")


def _round_trips(made: Pruner) -> None:
    _law(dataclasses.is_dataclass(made), "a pruner must be a dataclass")
    _law(pickle.loads(pickle.dumps(made)) == made, f"{made.spec()}: the pickle gives another pruner")
    for field in dataclasses.fields(made):
        _law(_is_frozen(made, field.name), f"{made.spec()}: {field.name} can be changed")
    if {**PRUNERS, **WRAPPERS}.get(made.name) is type(made):
        _law(pruner(made.spec()) == made, f"{made.spec()}: the spec string gives another pruner")


def _is_frozen(made: Pruner, name: str) -> bool:
    try:
        setattr(made, name, getattr(made, name))
    except dataclasses.FrozenInstanceError:
        return True
    return False
