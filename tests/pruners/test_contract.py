"""Every registered pruner obeys the laws, and the check of the laws notices who does not."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from leanseg.core import Grid, Selection
from leanseg.errors import InputError
from leanseg.pruners import EVTP, PRUNERS, WRAPPERS, KCenter, Pruner, ScorePruner, pruner
from leanseg.testing import check_pruner, sample_tokens


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_obeys_the_laws(name):
    check_pruner(PRUNERS[name])


@pytest.mark.parametrize(
    "options",
    [
        {"normalize": "zscore"},
        {"normalize": "l2", "lambda_rule": "fixed"},
        {"lambda_rule": "match_std", "start": "far"},
        {"spatial_weight": 0.0, "start": "random", "seed": 3},
        {"start": 0, "tau": 4.0},
    ],
    ids=str,
)
def test_every_option_of_evtp_obeys_the_laws(options):
    grids = [Grid(1, 5), Grid(4, 4), Grid(7, 3)]
    check_pruner(lambda keep_ratio: EVTP(keep_ratio=keep_ratio, **options), grids=grids, keep_ratios=[0.2, 0.5])


@pytest.mark.parametrize("name", [name for name, method in PRUNERS.items() if method.scope == "clip"])
def test_a_clip_pruner_obeys_the_laws_on_joint_rows(name):
    check_pruner(PRUNERS[name], grids=[Grid(1, 1, frames=3), Grid(3, 4, frames=2), Grid(3, 3, frames=5)])


# One instance of each wrapper at least; what each does inside has tests of its own.
WRAPPED = (
    "reserve(keep_ratio=0.5, inner=evtp())",
    "union(keep_ratio=0.5, first=attention(), second=evtp())",
    "chain(keep_ratio=0.2, first=random(keep_ratio=0.9), second=kcenter())",
    "joint(keep_ratio=0.5, inner=kcenter())",
    "adaptive(keep_ratio=0.5, inner=evtp(), radius=0.8)",
    "adaptive(keep_ratio=0.5, inner=random(), radius=0.4, measure='spatial')",
    "smooth(keep_ratio=0.5, inner=evtp())",
)


@pytest.mark.parametrize("spec", WRAPPED)
def test_every_wrapper_obeys_the_laws(spec):
    made = pruner(spec)
    ratios = (0.2, 0.5, 1.0) if "chain" not in spec else (0.2, 0.5)
    check_pruner(
        lambda keep_ratio: replace(made, keep_ratio=keep_ratio),
        grids=[Grid(1, 1), Grid(4, 4), Grid(3, 4, frames=2)],
        keep_ratios=ratios,
    )


def test_every_wrapper_has_been_tried():
    assert {pruner(spec).name for spec in WRAPPED} == set(WRAPPERS)


@pytest.mark.parametrize("name", PRUNERS)
def test_the_registry_holds_what_its_names_say(name):
    made = PRUNERS[name](keep_ratio=0.5)
    assert made.name == name and name not in WRAPPERS
    assert made.paper and made.scope in ("frame", "clip") and made.__doc__
    assert made.licence and made.paper.startswith("ours") == made.extension
    assert set(made.cues) <= {"attention", "keys", "guidance"}
    assert pruner(name, keep_ratio=0.5) == made


@dataclass(frozen=True, kw_only=True)
class Broken(Pruner):
    """Keeps the first tokens, and breaks one law."""

    nested: ClassVar[bool] = True

    def pick(self, tokens, k):
        return torch.arange(k).repeat(tokens.batch, 1)

    def select(self, tokens, k):
        return Selection.from_order(self.pick(tokens, k), tokens.n_tokens)


class Rolls(Broken):
    def pick(self, tokens, k):
        return torch.stack([torch.randperm(tokens.n_tokens)[:k] for _ in range(tokens.batch)])


class Peeks(Broken):
    """Looks at the whole batch."""

    def pick(self, tokens, k):
        return tokens.features.sum((0, 2)).argsort()[:k].repeat(tokens.batch, 1)


class Scribbles(Broken):
    def pick(self, tokens, k):
        tokens.features.mul_(2.0)
        return torch.arange(k).repeat(tokens.batch, 1)


class Stretches(Broken):
    """Not nested, and says that it is."""

    def pick(self, tokens, k):
        return (torch.arange(k) * tokens.n_tokens // k).repeat(tokens.batch, 1)


class Forgets(Broken):
    def select(self, tokens, k):
        return Selection(self.pick(tokens, k), tokens.n_tokens)


class Trusts(Broken):
    """Fails where tokens tie."""

    def pick(self, tokens, k):
        order = tokens.features[..., 0].argsort(stable=True)[:, :k]
        if not bool(tokens.features.any()):
            raise AssertionError("all zero")
        return order


class Rounds(Broken):
    """Reads the last bits of float32 only."""

    def pick(self, tokens, k):
        return (tokens.features.sum(2) * (1.0 if tokens.features.dtype == torch.float32 else -1.0)).argsort()[:, :k]


class Merges(Broken):
    def select(self, tokens, k):
        return Selection(self.pick(tokens, k), tokens.n_tokens, features=tokens.features[:, :k])


class Thaws(Broken):
    """Can be changed."""

    __setattr__ = object.__setattr__


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Rolls, "global random state was touched"),
        (Peeks, "row 0 of a batch of 3 differs"),
        (Scribbles, "modified|another selection"),
        (Stretches, "the first .* picks are not the run with"),
        (Forgets, "must give the order of its picks"),
        (Trusts, "zero features: all zero"),
        (Rounds, "float64 and float32 tokens differ"),
        (Merges, "says it does not merge"),
        (Thaws, "can be changed"),
    ],
)
def test_the_check_notices_a_broken_law(method, message):
    with pytest.raises(AssertionError, match=message):
        check_pruner(method, grids=[Grid(4, 4)], keep_ratios=[0.5])


def test_the_check_names_pruner_and_grid():
    with pytest.raises(AssertionError, match=r"Forgets\(keep_ratio=0\.5\) on a 4 x 4 grid: "):
        check_pruner(Forgets, grids=[Grid(4, 4)], keep_ratios=[0.5])


def test_a_clip_pruner_is_checked_on_one_joint_row():
    @dataclass(frozen=True, kw_only=True)
    class Clip(KCenter):
        scope: ClassVar[str] = "clip"

    globals()["Clip"] = Clip  # where pickle looks for it
    Clip.__qualname__ = "Clip"
    check_pruner(Clip, grids=[Grid(4, 4)])


def test_a_clip_pruner_is_tried_on_several_frames_as_well():
    @dataclass(frozen=True, kw_only=True)
    class Still(KCenter):
        """Forgets that there are frames."""

        scope: ClassVar[str] = "clip"

        def select(self, tokens, k):
            if tokens.grid.frames > 1:
                raise AssertionError("lost in time")
            return KCenter(keep_ratio=0.5).select(tokens, k)

    with pytest.raises(AssertionError, match=r"on a 3 x 3 x 4 grid: lost in time"):
        check_pruner(Still)


def test_a_score_pruner_keeps_the_best_and_the_first_of_equals():
    @dataclass(frozen=True, kw_only=True)
    class Loudest(ScorePruner):
        def score(self, tokens):
            return tokens.features.float().norm(dim=2).round()

    globals()["Loudest"] = Loudest
    Loudest.__qualname__ = "Loudest"
    check_pruner(Loudest, grids=[Grid(1, 5), Grid(7, 3)])
    tokens = sample_tokens(Grid(1, 5), kind="constant")
    assert Loudest(keep_ratio=0.6)(tokens).order.tolist() == [[0, 1, 2]]


def test_sample_tokens_know_their_kinds():
    with pytest.raises(InputError, match="unknown kind of sample tokens 'zeros'; did you mean 'zero'"):
        sample_tokens(Grid(2, 2), kind="zeros")
