"""Hardware profiles: what they may say, what they are worked out from, and how wrong files are refused."""

from __future__ import annotations

import json

import pytest

from leanseg import costs
from leanseg.costs import Profile, Sizes, read_profile
from leanseg.costs.profile import STAGES, from_seconds
from leanseg.errors import InputError
from leanseg.models import PRESETS

RATES = {"encode": 2.0, "select": 0.1, "project": 2.0, "temporal": 1.0, "language": 4.0, "pixel": 0.5, "decode": 0.5}
NANO = Sizes.of(PRESETS["nano"])


def _write(folder, content):
    path = folder / "profile.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def _rates(**changes):
    return {"schema": 1, "kind": "hardware_profile", "name": "a machine", "rates": RATES, **changes}


def _result(kept=51, frames=1, answers=1, **changes):
    frame = {"kept": list(range(kept)), "n_tokens": 256}
    answer = {"protocol": {"visual": "all", "site": "before_projector"}, "frames": [frame] * frames}
    seconds = dict.fromkeys(STAGES, 2.0) | {"coverage": 9.0, "postprocess": 1.0}
    content = {"command": "segment", "frames": frames, "timings_s": seconds, "results": [answer] * answers}
    return {**content, **changes}


def test_rates_turn_counts_into_seconds(tmp_path):
    profile = read_profile(_write(tmp_path, _rates(fixed_s={"postprocess": 0.25})))
    cost = costs.instructseg("refcoco", 146, "exact")
    seconds = profile.seconds(cost)
    assert profile.name == "a machine"
    assert seconds["language"] == pytest.approx(cost.parts["lm"] / 4)
    assert seconds["pixel"] == pytest.approx((cost.parts["swin"] + cost.parts["pixel_decoder"]) / 0.5)
    assert seconds["postprocess"] == 0.25


def test_the_uniform_profile_is_the_count():
    cost = costs.instructseg("revos", 36)
    assert sum(costs.UNIFORM.seconds(cost).values()) == pytest.approx(cost.total)


@pytest.mark.parametrize(("frames", "answers"), [(1, 1), (1, 3), (5, 2)])
def test_measured_seconds_come_back_for_the_budget_at_which_they_were_measured(tmp_path, frames, answers):
    profile = read_profile(_write(tmp_path, _result(frames=frames, answers=answers)), NANO)
    dataset = "refyoutube" if frames > 1 else "refcoco"
    cost = costs.instructseg(dataset, 51, "exact", sizes=NANO, instructions=answers)
    seconds = profile.seconds(cost)
    assert seconds == pytest.approx(
        {stage: 2.0 / frames / answers for stage in STAGES} | {"postprocess": 1 / frames / answers}
    )


def _record(**changes):
    protocol = {"visual": "all", "site": "after_projector"}
    content = {"kind": "stages", "frames": 4, "kept": 26, "n_tokens": 256, "protocol": protocol}
    return {**content, "seconds": dict.fromkeys(STAGES, 0.5) | {"postprocess": 0.1, "coverage": 0.0}, **changes}


def test_a_record_of_stages_comes_back_as_it_was_measured(tmp_path):
    profile = read_profile(_write(tmp_path, _record()), NANO)
    cost = costs.instructseg("refyoutube", 26, "exact", sizes=NANO, site="after_projector")
    assert profile.seconds(cost) == pytest.approx(dict.fromkeys(STAGES, 0.5) | {"postprocess": 0.1})


def test_a_selection_that_was_not_measured_takes_no_time(tmp_path):
    content = _result(kept=256)
    content["results"][0]["frames"] = [{}]
    content["timings_s"]["select"] = 0
    profile = read_profile(_write(tmp_path, content), NANO)
    assert profile.seconds(costs.instructseg("refcoco", 51, "exact", sizes=NANO))["select"] == 0


def test_a_stage_without_a_rate_is_named():
    with pytest.raises(InputError, match="profile 'half' has no rate of project, temporal, language, pixel, decode"):
        Profile(name="half", rates=(("encode", 1.0),))


def test_a_stage_that_took_no_time_is_named():
    cost = costs.instructseg("refcoco", 146, "exact")
    with pytest.raises(InputError, match="m measured no time in encode; expected some: measure without a warm cache"):
        from_seconds("m", dict.fromkeys(STAGES, 1.0) | {"encode": 0.0}, cost)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON file"),
        ("[" * 100_000, "is no JSON file"),
        ("[1]", "holds list; expected an object"),
        ({"kind": "evaluation"}, "is no hardware profile; expected"),
        (_rates(schema=2), "schema in .* is 2; expected 1"),
        (_rates(name=7), "name in .* is 7; expected 1 to 200 characters"),
        (_rates(name="n" * 201), r"name in .*\.\.\.; expected"),
        (_rates(rates=[1]), r"rates in .* is \[1\]; expected an object"),
        (_rates(rates={**RATES, "langage": 1}), r"unknown stage in rates of .* 'langage'; did you mean 'language'"),
        (_rates(rates={**RATES, "pixel": -1}), r"rates\.pixel in .* is -1; expected a number of 0"),
        (_rates(rates={**RATES, "pixel": True}), r"rates\.pixel in .* is True"),
        (_rates(rates={**RATES, "pixel": "fast"}), r"rates\.pixel in .* is 'fast'"),
        (_rates(rates={**RATES, "pixel": 0}), r"rates\.pixel in .* is 0\.0; expected more than 0"),
        (_rates(rates={**RATES, "pixel": float("nan")}), r"rates\.pixel in .* is nan"),
        (_rates(rates={**RATES, "pixel": 10**80}), r"rates\.pixel in .* is a huge number"),
        (_rates(rates={"encode": 1}), "has no rate of project"),
        (_rates(fixed_s={"language": 1}), r"unknown stage in fixed_s"),
        (_result(timings_s=None), "timings_s in .* is None"),
        (_result(timings_s={"thinking": 1}), "unknown stage in timings_s of .* 'thinking'"),
        ({**_result(), "frames": 0}, "frames in .* is 0; expected how many frames"),
        ({**_result(), "frames": True}, "frames in .* is True"),
        (_result(results=[]), r"results in .* is \[\]; expected the answers"),
        (_result(results=[{"protocol": {"visual": "blind"}}]), r"results\[0\]\.protocol in .*blind.*; expected that"),
        (_result(results=[{"protocol": {"visual": "all"}, "frames": [3]}]), r"results\[0\]\.frames in .* is \[3\]"),
        (_record(kept=257), "kept in .* is 257; expected 1 to 256"),
        (_record(n_tokens=None), "was measured with None tokens per frame; expected 256"),
        (_record(seconds=[]), r"seconds in .* is \[\]"),
        (_record(protocol="all"), r"protocol in .* is 'all'; expected that of a whole answer"),
        (_result(kept=0), r"kept in .* is \[\]; expected a list of 1 to 256 tokens"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_sentence(tmp_path, content, said):
    with pytest.raises(InputError, match=said):
        read_profile(_write(tmp_path, content), NANO)


def test_a_measurement_of_another_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="was measured with 256 tokens per frame; expected 729"):
        read_profile(_write(tmp_path, _result()))


def test_an_unknown_site_is_refused(tmp_path):
    content = _result()
    content["results"][0]["protocol"]["site"] = "nowhere"
    with pytest.raises(InputError, match="unknown site 'nowhere'"):
        read_profile(_write(tmp_path, content), NANO)


def test_a_first_run_that_compiled_is_no_profile(tmp_path):
    first = _result()
    first["timings_s"]["select"] = 60.0
    with pytest.raises(InputError, match=r"choosing tokens took 60\.0 of .* run the same command again"):
        read_profile(_write(tmp_path, first), NANO)


def test_absent_binary_and_enormous_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no profile at .*absent\.json; expected"):
        read_profile(tmp_path / "absent.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no JSON file"):
        read_profile(tmp_path / "binary.json")
    with pytest.raises(InputError, match="is no JSON file"):
        read_profile(tmp_path)
    monkeypatch.setattr("leanseg.costs.profile.MOST_BYTES", 4)
    with pytest.raises(InputError, match="is larger than 4 bytes"):
        read_profile(_write(tmp_path, _rates()))
