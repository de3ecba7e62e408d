"""How fast a machine runs each stage: given as rates, or worked out from seconds that `leanseg segment` measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leanseg.costs.cost import Cost
from leanseg.costs.estimate import instructseg
from leanseg.costs.sizes import Sizes
from leanseg.errors import InputError, unknown_name

STAGE_OF_PART = {
    "vision": "encode",
    "prune": "select",
    "projector": "project",
    "temporal": "temporal",
    "lm": "language",
    "swin": "pixel",
    "pixel_decoder": "pixel",
    "vmtf": "decode",
    "mask": "decode",
}
STAGES = tuple(dict.fromkeys(STAGE_OF_PART.values()))
FIXED = ("postprocess",)  # takes time, and no multiply-adds
DIAGNOSTIC = ("coverage",)  # measured beside the answer, and no part of it
FORM = '{"schema": 1, "kind": "hardware_profile", "name": "...", "rates": {"encode": 1.5, ...}, "fixed_s": {}}'
MOST_BYTES = 64 * 1024 * 1024
MOST_RATE = 1e9
MOST_SECONDS = 1e7
MOST_FRAMES = 10**7


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A machine: `rates` in 1e12 multiply-adds per second by stage, and seconds per answer that nothing changes.

    A stage without a rate takes no time; only `select` may lack one, where it was not measured.
    """

    name: str
    rates: tuple[tuple[str, float], ...]
    fixed_s: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        known = dict(self.rates)
        missing = [stage for stage in STAGES if stage not in known and stage != "select"]
        if missing:
            raise InputError(f"profile {self.name!r} has no rate of {', '.join(missing)}; expected {', '.join(STAGES)}")

    def seconds(self, cost: Cost) -> dict[str, float]:
        """Return the seconds of one answer by stage."""
        rates = dict(self.rates)
        found = dict.fromkeys(STAGES, 0.0)
        for part, count in cost.parts.items():
            stage = STAGE_OF_PART[part]
            if stage in rates:
                found[stage] += count / rates[stage]
        return found | dict(self.fixed_s)


UNIFORM = Profile(name="uniform", rates=tuple((stage, 1.0) for stage in STAGES))


def read_profile(path: Path, sizes: Sizes | None = None) -> Profile:
    """Read a profile of the form `FORM`, or seconds measured on a model of `sizes`.

    Those are a result.json of `leanseg segment`, or a record of `leanseg.engine.bench.stages`.
    """
    content = _content(path)
    if content.get("kind") == "hardware_profile":
        return _from_rates(content, path)
    if content.get("command") == "segment":
        return _from_result(content, path, sizes or Sizes())
    if content.get("kind") == "stages":
        return _from_record(content, path, sizes or Sizes())
    raise InputError(f"{path} is no hardware profile; expected {FORM}, or a result.json of leanseg segment")


def from_seconds(name: str, seconds: Mapping[str, float], cost: Cost) -> Profile:
    """Return the profile of a machine on which an answer of this cost took these seconds by stage."""
    counted = dict.fromkeys(STAGES, 0.0)
    for part, count in cost.parts.items():
        counted[STAGE_OF_PART[part]] += count
    idle = [stage for stage in STAGES if stage != "select" and not seconds.get(stage)]
    if idle:
        raise InputError(f"{name} measured no time in {', '.join(idle)}; expected some: measure without a warm cache")
    rates = tuple((stage, counted[stage] / seconds[stage]) for stage in STAGES if counted[stage] and seconds.get(stage))
    return Profile(name=name, rates=rates, fixed_s=tuple((stage, seconds.get(stage, 0.0)) for stage in FIXED))


def _content(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is larger than {MOST_BYTES} bytes; expected a small JSON file")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"no profile at {path}; expected a JSON file {FORM}") from error
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no JSON file ({error}); expected {FORM}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {type(content).__name__}; expected an object {FORM}")
    return content


def _from_rates(content: dict[str, Any], path: Path) -> Profile:
    name = content.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise InputError(f"name in {path} is {_short(name)}; expected 1 to 200 characters")
    if content.get("schema") != 1:
        raise InputError(f"schema in {path} is {_short(content.get('schema'))}; expected 1")
    rates = _numbers(content.get("rates"), "rates", path, known=STAGES, most=MOST_RATE)
    if slow := [stage for stage, rate in rates.items() if rate < 1 / MOST_RATE]:
        raise InputError(f"rates.{slow[0]} in {path} is {rates[slow[0]]}; expected more than 0")
    fixed = _numbers(content.get("fixed_s", {}), "fixed_s", path, known=FIXED, most=MOST_SECONDS)
    return Profile(name=name, rates=tuple(rates.items()), fixed_s=tuple(fixed.items()))


def _from_result(content: dict[str, Any], path: Path, sizes: Sizes) -> Profile:
    timings, frames = _timings(content, "timings_s", path), _frames(content, path)
    selecting, whole = timings.get("select", 0.0), sum(timings.values())
    if selecting > 0.5 * whole:
        raise InputError(
            f"choosing tokens took {selecting:.1f} of {whole:.1f} s in {path}, as in a first run, which compiles; run "
            "the same command again, or measure with leanseg bench stages"
        )
    results = content.get("results")
    if not isinstance(results, list) or not results or not isinstance(results[0], dict):
        raise InputError(f"results in {path} is {_short(results)}; expected the answers of leanseg segment")
    site = _site(results[0].get("protocol"), "results[0].protocol", path)
    kept = _mean_kept(results[0].get("frames"), path, sizes)
    cost = _measured(frames, kept, sizes=sizes, site=site, instructions=len(results))
    answers = frames * len(results)
    return from_seconds(path.name, {stage: seconds / answers for stage, seconds in timings.items()}, cost)


def _from_record(content: dict[str, Any], path: Path, sizes: Sizes) -> Profile:
    seconds, frames = _timings(content, "seconds", path), _frames(content, path)
    kept = content.get("kept")
    _check_tokens(content.get("n_tokens"), path, sizes)
    if isinstance(kept, bool) or not isinstance(kept, int) or not 1 <= kept <= sizes.n_tokens:
        raise InputError(f"kept in {path} is {_short(kept)}; expected 1 to {sizes.n_tokens}")
    site = _site(content.get("protocol"), "protocol", path)
    return from_seconds(path.name, seconds, _measured(frames, kept, sizes=sizes, site=site))


def _measured(frames: int, kept: int, **readings: Any) -> Cost:
    """Return the cost of what was measured; the instruction's length is a data set's typical one."""
    return instructseg("refyoutube" if frames > 1 else "refcoco", kept, "exact", **readings)


def _timings(content: dict[str, Any], name: str, path: Path) -> dict[str, float]:
    return _numbers(content.get(name), name, path, known=(*STAGES, *FIXED, *DIAGNOSTIC), most=MOST_SECONDS)


def _frames(content: dict[str, Any], path: Path) -> int:
    frames = content.get("frames")
    if isinstance(frames, bool) or not isinstance(frames, int) or not 1 <= frames <= MOST_FRAMES:
        raise InputError(f"frames in {path} is {_short(frames)}; expected how many frames were segmented")
    return frames


def _site(protocol: Any, what: str, path: Path) -> Any:
    if not isinstance(protocol, dict) or protocol.get("visual") != "all":
        raise InputError(f"{what} in {path} is {_short(protocol)}; expected that of a whole answer")
    return protocol.get("site")


def _check_tokens(n_tokens: Any, path: Path, sizes: Sizes) -> None:
    if n_tokens != sizes.n_tokens:
        raise InputError(
            f"{path} was measured with {_short(n_tokens)} tokens per frame; expected {sizes.n_tokens}, those of "
            "the sizes asked for: choose the preset of the model that was measured"
        )


def _mean_kept(frames: Any, path: Path, sizes: Sizes) -> int:
    """Return the tokens kept per frame; a frame of another number of tokens is of another model."""
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise InputError(f"results[0].frames in {path} is {_short(frames)}; expected one object per frame")
    counts = []
    for frame in frames:
        kept, n_tokens = frame.get("kept"), frame.get("n_tokens", sizes.n_tokens)
        _check_tokens(n_tokens, path, sizes)
        if kept is not None and (not isinstance(kept, list) or not 1 <= len(kept) <= sizes.n_tokens):
            raise InputError(f"kept in {path} is {_short(kept)}; expected a list of 1 to {sizes.n_tokens} tokens")
        counts.append(sizes.n_tokens if kept is None else len(kept))
    return round(sum(counts) / len(counts))


def _numbers(given: Any, what: str, path: Path, *, known: Iterable[str], most: float) -> dict[str, float]:
    if not isinstance(given, dict):
        raise InputError(f"{what} in {path} is {_short(given)}; expected an object of numbers by stage")
    for stage, value in given.items():
        if stage not in known:
            raise InputError(unknown_name(f"stage in {what} of {path}:", str(stage)[:100], known))
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise InputError(f"{what}.{stage} in {path} is {_short(value)}; expected a number of 0 to {most:g}")
    return {stage: float(value) for stage, value in given.items()}


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**50 else "a huge number"
    return text if len(text) <= 80 else text[:77] + "..."
