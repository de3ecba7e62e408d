import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field
from typing import ClassVar

import pytest
import torch

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.errors import BudgetError, SelectionError, SpecError, TokensError
from leanseg.pruners import EVTP, Identity, KCenter, Pruner, Random, ScorePruner, Uniform, Wrapper, pruner
from leanseg.pruners.base import picks


def tokens(batch=1, grid=None):
    grid = grid or Grid(4, 5)
    generator = torch.Generator().manual_seed(7)
    return VisualTokens(features=torch.randn(batch, grid.n_tokens, 6, generator=generator), grid=grid)


@dataclass(frozen=True, kw_only=True)
class Guided(Pruner):
    cues: ClassVar[tuple[str, ...]] = ("attention", "guidance")

    def select(self, tokens, k):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Returns(Pruner):
    result: object

    def select(self, tokens, k):
        return self.result


@dataclass(frozen=True, kw_only=True)
class Scores(ScorePruner):
    value: object = None

    def score(self, tokens):
        return self.value


def test_a_missing_cue_is_named():
    with pytest.raises(TokensError, match="needs attention and guidance, and the tokens carry no cue"):
        Guided(keep_ratio=0.5)(tokens())


def test_a_clip_pruner_refuses_frames_as_a_batch():
    @dataclass(frozen=True, kw_only=True)
    class Clip(KCenter):
        scope: ClassVar[str] = "clip"

    assert Clip(keep_ratio=0.5)(tokens()).k == 10
    with pytest.raises(TokensError, match="takes a clip as one joint row; got a batch of 2 frames"):
        Clip(keep_ratio=0.5)(tokens(batch=2))


def test_only_visual_tokens_are_taken():
    with pytest.raises(TokensError, match="a pruner takes VisualTokens"):
        inspect.unwrap(Pruner.__call__)(EVTP(keep_ratio=0.5), torch.zeros(1, 20, 6))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "returned NoneType; select must return a Selection"),
        (Selection(torch.arange(3)[None], 20), r"= \(1, 3, 20, .*expected \(1, 10, 20"),
        (Selection(torch.arange(10)[None], 21), r"= \(1, 10, 21, .*expected \(1, 10, 20"),
        (Selection.identity(2, 10), r"= \(2, 10, 10, .*expected \(1, 10, 20"),
    ],
)
def test_what_a_method_returns_is_verified(result, message):
    with pytest.raises(SelectionError, match=message):
        Returns(keep_ratio=0.5, result=result)(tokens())


def test_scores_are_verified():
    with pytest.raises(SelectionError, match=r"scored \(1, 3\); expected \(1, 20\)"):
        Scores(keep_ratio=0.5, value=torch.zeros(1, 3))(tokens())
    with pytest.raises(SelectionError, match="scores that are NaN or infinite"):
        Scores(keep_ratio=0.5, value=torch.full((1, 20), float("nan")))(tokens())
    order = Scores(keep_ratio=0.1, value=torch.arange(20.0)[None])(tokens()).order
    assert order.tolist() == [[19, 18]]


@pytest.mark.parametrize("ratio", [0, -1, 1.5, "0.2", None, True, float("nan")])
def test_a_bad_keep_ratio_is_refused_by_every_pruner(ratio):
    for made in (EVTP, KCenter, Random, Uniform, Identity):
        with pytest.raises(BudgetError, match="keep_ratio is"):
            made(keep_ratio=ratio)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0}, "tau is"),
        ({"tau": "big"}, "tau is 'big'"),
        ({"spatial_weight": -1}, "spatial_weight is"),
        ({"lambda_rule": "std"}, "unknown lambda_rule 'std'"),
        ({"normalize": "zscor"}, "unknown normalize 'zscor'; did you mean 'zscore'"),
        ({"start": "men"}, "unknown start 'men'; did you mean 'mean'.*, or the index of a token"),
        ({"start": -1}, "start is -1; it must be one of mean, first, far, random, or the index"),
        ({"start": 1.5}, "start is 1.5"),
        ({"seed": -1}, "seed is -1; it must be a whole number of at least 0"),
        ({"seed": 0.5}, "seed is 0.5"),
    ],
)
def test_bad_options_of_evtp_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        EVTP(keep_ratio=0.2, **options)


def test_a_start_beyond_the_grid_is_refused():
    assert KCenter(keep_ratio=0.5, start=19)(tokens()).order[0, 0] == 19
    with pytest.raises(SpecError, match=r"start is token 20; these grids have tokens 0\.\.19"):
        KCenter(keep_ratio=0.5, start=20)(tokens())


def test_pruners_are_values():
    made = EVTP(keep_ratio=0.2, tau=2)
    assert made == EVTP(keep_ratio=0.2, tau=2.0) and hash(made) == hash(EVTP(keep_ratio=0.2, tau=2.0))
    assert isinstance(made.tau, float) and isinstance(EVTP(keep_ratio=1).keep_ratio, float)
    assert isinstance(EVTP(keep_ratio=0.2, spatial_weight=0).spatial_weight, float)
    assert pickle.loads(pickle.dumps(made)) == made
    assert made != EVTP(keep_ratio=0.2) and repr(made).startswith("EVTP(keep_ratio=0.2, tau=2.0")
    with pytest.raises(FrozenInstanceError):
        made.tau = 1.0
    with pytest.raises(TypeError):
        EVTP(0.2)


def test_a_selection_carries_no_gradient_and_tokens_may():
    scene = tokens()
    scene.features.requires_grad_()
    for made in (EVTP(keep_ratio=0.2), KCenter(keep_ratio=0.2), Random(keep_ratio=0.2), Uniform(keep_ratio=0.2)):
        made(scene).gather(scene.features).sum().backward()
    assert float(scene.features.grad.sum()) == 4 * 4 * 6


SECOND = KCenter(keep_ratio=1.0)


@dataclass(frozen=True, kw_only=True)
class Halves(Wrapper):
    """The first half by one method, the rest by another."""

    name: ClassVar[str] = "halves"
    first: Pruner
    second: Pruner = SECOND
    seam: float | None = None

    def check_options(self):
        if self.seam == 0.0:
            raise SpecError("seam is 0")
        self._declare(nested=self.first.nested and self.seam is None)

    def select(self, tokens, k):
        order = picks(self.first, tokens, k)
        return Selection.from_order(order, tokens.n_tokens)


@dataclass(frozen=True, kw_only=True)
class Asks(KCenter):
    """Says that it needs some cues, and takes whole clips, or not."""

    needs: tuple = ()
    whole: bool = False
    tower: str = "tower"

    def check(self):
        self._declare(cues=self.needs, scope="clip" if self.whole else "frame", attention_from=self.tower)


def test_a_wrapper_needs_what_the_pruners_inside_need():
    made = Halves(
        keep_ratio=0.5,
        first=Asks(keep_ratio=1, needs=("attention", "keys"), tower="language"),
        second=Asks(keep_ratio=1, needs=("keys", "guidance"), whole=True),
    )
    assert made.cues == ("attention", "keys", "guidance") and made.scope == "clip"
    assert made.attention_from == "language"
    assert made.inner_pruners() == (made.first, made.second)
    with pytest.raises(TokensError, match="needs attention and keys and guidance, and the tokens carry no cue"):
        made(tokens())
    plain = Halves(keep_ratio=0.5, first=EVTP(keep_ratio=1))
    assert (plain.cues, plain.scope, plain.attention_from) == ((), "frame", "tower")
    assert Halves.cues == () and Halves.scope == "frame"


def test_a_wrapper_decides_the_count_itself():
    made = Halves(keep_ratio=0.2, first=EVTP(keep_ratio=0.9))
    assert made(tokens()).equals(EVTP(keep_ratio=0.2)(tokens()))
    assert Halves(keep_ratio=1.0, first=EVTP(keep_ratio=0.1))(tokens()).k == 20


def test_facts_of_an_instance_are_not_part_of_its_value():
    made = Halves(keep_ratio=0.2, first=Random(keep_ratio=1))
    seamed = Halves(keep_ratio=0.2, first=Random(keep_ratio=1), seam=1)
    assert made.nested and not seamed.nested and not Halves.nested
    for each in (made, seamed):
        again = pickle.loads(pickle.dumps(each))
        assert again == each and hash(again) == hash(each) and again.nested == each.nested
    assert seamed.spec() == "halves(keep_ratio=0.2, first=random(keep_ratio=1.0), seam=1.0)"
    assert "nested" not in repr(made)


def test_a_wrapper_refuses_what_is_no_pruner_and_checks_its_options():
    with pytest.raises(SpecError, match=r"first of halves is 'evtp'; it must be a pruner: evtp\(keep_ratio=0\.2\) in"):
        Halves(keep_ratio=0.5, first="evtp")
    with pytest.raises(SpecError, match="second of halves is None"):
        Halves(keep_ratio=0.5, first=EVTP(keep_ratio=1), second=None)
    with pytest.raises(SpecError, match="seam is 0"):
        Halves(keep_ratio=0.5, first=EVTP(keep_ratio=1), seam=0)
    with pytest.raises(BudgetError, match="keep_ratio is 0"):
        Halves(keep_ratio=0, first=EVTP(keep_ratio=1))


def test_attention_of_two_models_cannot_be_read_at_once():
    tower, language = (Asks(keep_ratio=1, needs=("attention",), tower=origin) for origin in ("tower", "language"))
    with pytest.raises(SpecError, match="read the attention of different models, and tokens carry one"):
        Halves(keep_ratio=0.5, first=tower, second=language)
    # Without the cue it does not matter.
    assert Halves(keep_ratio=0.5, first=tower, second=Asks(keep_ratio=1, tower="language")).attention_from == "tower"


def test_picks_are_in_order_of_picking_or_of_the_raster():
    scene = tokens(batch=2)
    assert torch.equal(picks(EVTP(keep_ratio=1), scene, 7), EVTP(keep_ratio=0.35)(scene).order)
    assert torch.equal(picks(Uniform(keep_ratio=1), scene, 7), Uniform(keep_ratio=0.35)(scene).indices)
    for k in (20, 25):
        assert picks(EVTP(keep_ratio=1), scene, k).tolist() == [list(range(20))] * 2


def test_a_method_with_a_budget_of_its_own_may_keep_fewer_but_not_more():
    @dataclass(frozen=True, kw_only=True)
    class Frugal(Returns):
        fixed_budget: ClassVar[bool] = False

    few, many = (Selection(torch.arange(kept)[None], 20) for kept in (3, 11))
    assert Frugal(keep_ratio=0.5, result=few)(tokens()).k == 3
    with pytest.raises(SelectionError, match=r"= \(1, 11, 20, .*expected \(1, 10, 20"):
        Frugal(keep_ratio=0.5, result=many)(tokens())
    nothing = Selection(torch.empty(1, 0, dtype=torch.int64), 20)
    with pytest.raises(SelectionError, match=r"= \(1, 0, 20, .*expected \(1, 10, 20"):
        Frugal(keep_ratio=0.5, result=nothing)(tokens())


def test_a_file_may_postpone_its_annotations(tmp_path):
    path = tmp_path / "late.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from leanseg.pruners import Pruner, Wrapper\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Late(Wrapper):\n"
        "    inner: Pruner\n"
        "    power: float = 1.0\n"
        "    def select(self, tokens, k):\n"
        "        return self.inner.select(tokens, k)\n"
    )
    made = pruner(f"{path}:Late(keep_ratio=1, inner=attention(), power=2)")
    assert made.cues == ("attention",) and isinstance(made.power, float) and isinstance(made.keep_ratio, float)
    with pytest.raises(SpecError, match=r"inner of .*Late is 3; it must be a pruner"):
        pruner(f"{path}:Late(keep_ratio=0.5, inner=3)")


def test_a_count_that_the_caller_resolved_is_kept_exactly():
    given = tokens(batch=2)
    assert Random(keep_ratio=0.5).at(given, 7).k == 7
    assert Random(keep_ratio=0.5).at(given, 20).k == 20
    with pytest.raises(SelectionError, match="expected"):
        Returns(keep_ratio=0.5, result=Random(keep_ratio=0.5)(given)).at(given, 7)
    with pytest.raises(TokensError, match="needs attention and guidance"):
        Guided(keep_ratio=0.5).at(given, 7)


def test_a_field_without_text_is_no_part_of_the_spec():
    @dataclass(frozen=True, kw_only=True)
    class Holds(KCenter):
        name: ClassVar[str] = "holds"
        module: object = field(repr=False)

    assert Holds(keep_ratio=0.5, module=print).spec() == "holds(keep_ratio=0.5)"
