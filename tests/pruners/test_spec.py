import inspect
import pickle
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from leanseg.core import Grid, VisualTokens
from leanseg.errors import BudgetError, SpecError
from leanseg.pruners import EVTP, PRUNERS, WRAPPERS, Identity, KCenter, Pruner, Random, Uniform, pruner


@dataclass(frozen=True, kw_only=True)
class Wrapped(Pruner):
    name: ClassVar[str] = "wrapped"
    inner: Pruner
    strength: int = 1

    def select(self, tokens, k):
        return self.inner.select(tokens, k)


@pytest.fixture
def wrapped(monkeypatch):
    monkeypatch.setitem(WRAPPERS, "wrapped", Wrapped)


@pytest.mark.parametrize(
    "made",
    [
        EVTP(keep_ratio=0.2),
        EVTP(keep_ratio=0.2, tau=0.5, spatial_weight=0.0, lambda_rule="match_std", normalize="l2", start=3, seed=9),
        EVTP(keep_ratio=1 / 3, start="far"),
        KCenter(keep_ratio=0.05, start="random", seed=2),
        Random(keep_ratio=0.1, seed=7),
        Uniform(keep_ratio=1.0),
        Identity(),
    ],
    ids=lambda made: made.spec(),
)
def test_a_spec_makes_the_pruner_again(made):
    assert pruner(made.spec()) == made and pruner(made.spec()).spec() == made.spec()


def test_numbers_of_numpy_are_written_as_plain_ones():
    made = EVTP(keep_ratio=np.float64(0.2), tau=np.float32(2.0), spatial_weight=np.float64(0.5))
    assert made.spec() == "evtp(keep_ratio=0.2, tau=2.0, spatial_weight=0.5)"
    assert pruner(made.spec()) == made == EVTP(keep_ratio=0.2, tau=2, spatial_weight=0.5)


def test_specs_are_read_as_written():
    assert pruner("evtp(keep_ratio=0.2)").spec() == "evtp(keep_ratio=0.2)"
    assert pruner("  evtp( keep_ratio = 2e-1, tau = 2 ) ") == EVTP(keep_ratio=0.2, tau=2.0)
    assert pruner("evtp(keep_ratio=.2, start='far', spatial_weight=None)").start == "far"
    assert pruner("identity") == pruner("identity()") == Identity()


def test_the_grids_ratio_serves_where_the_spec_names_none():
    assert pruner("evtp", keep_ratio=0.1) == EVTP(keep_ratio=0.1)
    assert pruner("evtp(keep_ratio=0.2)", keep_ratio=0.1) == EVTP(keep_ratio=0.2)


def test_wrappers_hold_other_pruners_and_hand_the_ratio_down(wrapped):
    made = pruner("wrapped(inner=evtp(tau=2), strength=3)", keep_ratio=0.1)
    assert made == Wrapped(keep_ratio=0.1, inner=EVTP(keep_ratio=0.1, tau=2.0), strength=3)
    assert pruner(made.spec()) == made
    nest = "random(keep_ratio=0.5)"
    for _ in range(3):
        nest = f"wrapped(keep_ratio=0.5, inner={nest})"
    assert pruner(nest).inner.inner.inner == Random(keep_ratio=0.5)
    with pytest.raises(SpecError, match="nested more than 4 deep"):
        pruner(f"wrapped(keep_ratio=0.5, inner={nest})")


def test_the_ratio_written_outside_serves_inside_before_the_grids(wrapped):
    inner = pruner("wrapped(keep_ratio=0.3, inner=evtp())", keep_ratio=0.1).inner
    assert inner == EVTP(keep_ratio=0.3)
    assert pruner("wrapped(inner=evtp(), keep_ratio=0.3)").inner == EVTP(keep_ratio=0.3)
    assert pruner("wrapped(keep_ratio=0.3, inner=evtp(keep_ratio=0.5))").inner == EVTP(keep_ratio=0.5)
    assert pruner("wrapped(inner=evtp(keep_ratio=0.5))", keep_ratio=0.1) == Wrapped(
        keep_ratio=0.1, inner=EVTP(keep_ratio=0.5)
    )


def test_each_level_hands_its_own_ratio_down(wrapped):
    made = pruner("wrapped(keep_ratio=0.4, inner=wrapped(inner=wrapped(keep_ratio=0.2, inner=kcenter())))")
    ratios = [made.keep_ratio, made.inner.keep_ratio, made.inner.inner.keep_ratio, made.inner.inner.inner.keep_ratio]
    assert ratios == [0.4, 0.4, 0.2, 0.2]
    assert pruner(made.spec()) == made
    assert pruner("wrapped(keep_ratio=1, inner=random())").inner.keep_ratio == 1.0


def test_without_any_ratio_the_innermost_asks_for_one(wrapped):
    with pytest.raises(SpecError, match=r"evtp needs keep_ratio; write evtp\(keep_ratio=0\.2\)"):
        pruner("wrapped(inner=evtp())")
    with pytest.raises(SpecError, match=r"wrapped needs keep_ratio; write wrapped\(keep_ratio=0\.2\)"):
        pruner("wrapped(inner=evtp(keep_ratio=0.2))")
    with pytest.raises(SpecError, match="wrapped needs inner; write wrapped"):
        pruner("wrapped(keep_ratio=0.2)")


@pytest.mark.parametrize("ratio", ["2", "-1", "0", "'half'", "True", "None"])
def test_a_bad_ratio_outside_is_refused_where_it_serves_inside(wrapped, ratio):
    with pytest.raises((BudgetError, SpecError), match="keep_ratio"):
        pruner(f"wrapped(keep_ratio={ratio}, inner=evtp())")


def test_identity_inside_keeps_its_own_ratio_out_of_the_spec(wrapped):
    assert pruner("wrapped(keep_ratio=0.2, inner=identity(keep_ratio=1))").spec() == (
        "wrapped(keep_ratio=0.2, inner=identity)"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("evpt(keep_ratio=0.2)", "unknown pruner 'evpt'; did you mean 'evtp'"),
        ("qqq", "unknown pruner 'qqq'; Known: .*evtp, .*identity, .*kcenter, .*random, .*uniform"),
        ("evtp(keep_ratoi=0.2)", "evtp: unknown option 'keep_ratoi'; did you mean 'keep_ratio'"),
        ("evtp(tau=2)", r"evtp needs keep_ratio; write evtp\(keep_ratio=0\.2\)"),
        ("evtp(0.2)", "write a name before each value"),
        ("evtp(**{'tau': 2})", r"evtp\(\*\*...\) is not possible"),
        ("evtp(keep_ratio=0.2, keep_ratio=0.3)", "evtp: keep_ratio is given twice"),
        ("evtp(keep_ratio=0.2", "cannot read the pruner spec .*expected name or name"),
        ("evtp(keep_ratio=0.2) + 1", "cannot read 'evtp"),
        ("evtp.__class__(keep_ratio=0.2)", "cannot read 'evtp.__class__"),
        ("evtp(keep_ratio=0.2)(tau=1)", "cannot read"),
        ("", "cannot read the pruner spec ''"),
        ("\0", "cannot read the pruner spec"),
        ("evtp(start='\\d', keep_ratio=0.2)", "cannot read the pruner spec"),
        ("evtp(keep_ratio=0.2, start=far)", r"'far' is not a literal; write 'far' in quotes, or far\(...\)"),
        ("evtp(keep_ratio=1/5)", "'1 / 5' is not a literal"),
        ("evtp(keep_ratio=[x for x in (1,)])", "is not a literal"),
        ("evtp(keep_ratio=open('x'))", "unknown pruner 'open'"),
        ("evtp(keep_ratio=0.2, tau=1e999)", "'1e309' is not a finite number"),
        ("evtp(keep_ratio=0.2, tau='big')", "tau is 'big'"),
        ("evtp(" + "(" * 240 + "1" + ")" * 240 + ")", "cannot read the pruner spec"),
        ("evtp(keep_ratio=0.2, start='" + "x" * 500 + "')", "530 characters long; at most 500"),
        ("missing.py:Mine(keep_ratio=0.2)", "there is no file 'missing.py' to take the pruner Mine from"),
    ],
)
def test_what_cannot_be_read_is_refused(spec, message):
    with pytest.raises(SpecError, match=message):
        pruner(spec)


def test_only_strings_are_read():
    with pytest.raises(SpecError, match="a pruner spec is a string, not float"):
        inspect.unwrap(pruner)(0.2)


def test_a_ratio_out_of_range_is_a_budget_error():
    with pytest.raises(BudgetError, match=r"for 20 % write 0\.2"):
        pruner("evtp(keep_ratio=20)")


def test_a_class_that_fails_is_reported(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Touchy(KCenter):
        def check(self):
            raise ValueError("not today")

    monkeypatch.setitem(WRAPPERS, "touchy", Touchy)
    with pytest.raises(SpecError, match=r"touchy cannot be made from 'touchy\(keep_ratio=0\.2\)': not today"):
        pruner("touchy(keep_ratio=0.2)")


MINE = """
from dataclasses import dataclass, field
from leanseg.core import Selection
from leanseg.pruners import KCenter, Pruner

@dataclass(frozen=True, kw_only=True)
class Mine(Pruner):
    offset: int = 0
    more: list = field(default_factory=list, hash=False)

    def select(self, tokens, k):
        return KCenter(keep_ratio=self.keep_ratio, start=self.offset).select(tokens, k)
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_a_private_pruner_comes_from_a_file(mine):
    made = pruner(f"{mine}:Mine(keep_ratio=0.2, offset=3)")
    tokens = VisualTokens(features=torch.randn(1, 25, 3), grid=Grid(5, 5))
    assert made(tokens).equals(KCenter(keep_ratio=0.2, start=3)(tokens))
    assert made.spec() == f"{mine}:Mine(keep_ratio=0.2, offset=3, more=[])" or made.spec().startswith(f"{mine}:Mine(")
    assert pruner(made.spec()) == made and pickle.loads(pickle.dumps(made)) == made
    assert pruner(f"{mine}:Mine", keep_ratio=0.4).keep_ratio == 0.4
    assert type(made).__name__ not in PRUNERS


def test_files_are_refused_where_they_are_not_allowed(mine):
    mine.write_text("raise SystemExit('ran')")
    with pytest.raises(SpecError, match=r"pruners from files are not accepted here, only registered names: evtp, .*"):
        pruner(f"{mine}:Mine(keep_ratio=0.2)", allow_files=False)


def test_a_file_is_never_the_value_of_an_option(mine, wrapped):
    with pytest.raises(SpecError):
        pruner(f"wrapped(keep_ratio=0.2, inner={mine}:Mine(keep_ratio=0.2))", allow_files=False)


def test_a_file_without_the_class_or_with_an_error_is_reported(mine):
    with pytest.raises(SpecError, match="unknown pruner class 'Mime'; did you mean 'Mine'"):
        pruner(f"{mine}:Mime(keep_ratio=0.2)")
    mine.write_text("x = 1 / 0")
    with pytest.raises(SpecError, match="failed while it was run: ZeroDivisionError"):
        pruner(f"{mine}:Mine(keep_ratio=0.2)")


def test_an_edited_file_is_read_anew(mine):
    assert pruner(f"{mine}:Mine(keep_ratio=0.2)").offset == 0
    mine.write_text(MINE.replace("offset: int = 0", "offset: int = 4") + "\n")
    assert pruner(f"{mine}:Mine(keep_ratio=0.2)").offset == 4


def test_a_learned_pruner_comes_with_the_module_that_it_holds():
    scorer = len
    made = pruner("union(first=vltp(), second=random())", keep_ratio=0.5, learned={"scorer": scorer})
    assert made.first.scorer is scorer
    assert made.spec() == "union(keep_ratio=0.5, first=vltp(keep_ratio=0.5), second=random(keep_ratio=0.5))"
    for spec, name in (("vltp", "vltp"), ("chain(first=evtp(), second=guidance_similarity())", "guidance_similarity")):
        with pytest.raises(
            SpecError, match=f"'{name}' is a stage method of VLTP models.*such as evtp, or segment with"
        ):
            pruner(spec, keep_ratio=0.5)
    with pytest.raises(SpecError, match="vltp: unknown option 'scorer'"):
        pruner("vltp(scorer=3)", keep_ratio=0.5, learned={"scorer": scorer})
    with pytest.raises(SpecError, match="vltp needs scorer"):
        pruner("vltp", keep_ratio=0.5, learned={})
