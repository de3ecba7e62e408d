"""What VLTP's stages save of SAM's time, and where the time of an answer is: pruned beside unpruned, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from leanseg.costs import SamSizes, sam_exact
from leanseg.costs.guide import guide
from leanseg.engine.bench.timing import Laps, one_thread
from leanseg.engine.bench.vltp_runs import GIGA, Subject, multiply_adds, paired, plain_run, staged_run
from leanseg.engine.bench.vltp_tables import DECODER, KIND
from leanseg.engine.records import record
from leanseg.errors import InputError, unknown_name
from leanseg.models.vltp.config import GuideConfig
from leanseg.models.vltp.presets import VLTP_PRESETS

Sample = dict[str, Any]
# Timed with a single stage too, after these blocks; each lies behind a block that sees the whole picture.
SINGLE_STAGES = {"b": (3, 6, 9)}
DEVICES = ("cpu", "cuda")
# A language model that takes more than this (1e9 multiply-adds) is counted, and one of its layers is timed.
LARGEST_TIMED = 100.0


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is timed: presets of VLTP at their own stages, and a question of so many text tokens, template included."""

    names: tuple[str, ...] = ("b",)
    dropped: tuple[float, ...] = (0.5, 0.7, 0.8)
    text_tokens: int = 80
    repeats: int = 3

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in VLTP_PRESETS:
                raise InputError(unknown_name("size", name, VLTP_PRESETS))


QUICK = Sizes(names=("tiny",), dropped=(0.5, 0.8), repeats=2)


def measure_vltp(
    sizes: Sizes, *, device: str = "cpu", command: str = "leanseg bench vltp", tick: Callable[[str], object] = str
) -> dict[str, Any]:
    """Return the record; `tick` hears the name of what is timed next. On a CPU everything runs on one thread.

    Raises:
        InputError: a device that is none, or is not there.
    """
    where = _device(device)
    samples: list[Sample] = []
    with one_thread(), torch.inference_mode():
        for name in sizes.names:
            samples += _sam(name, sizes, where, tick)
        for config in dict.fromkeys(VLTP_PRESETS[name].guide for name in sizes.names):
            tick("guide")
            samples += _guide(config, sizes, where)
    return record(
        KIND,
        command,
        device=torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        threads=1,
        dtype="float32",
        clock="cpu_ms" if where.type == "cpu" else "wall_ms",
        text_tokens=sizes.text_tokens,
        samples=samples,
    )


def _device(name: str) -> torch.device:
    if name not in DEVICES:
        raise InputError(unknown_name("device", str(name), DEVICES))
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("the device is cuda, and torch sees none; expected a GPU; ask for cpu")
    return torch.device(name)


def _sam(name: str, sizes: Sizes, device: torch.device, tick: Callable[[str], object]) -> Iterator[Sample]:
    preset = VLTP_PRESETS[name]
    stages = [tuple(place for place, _ in preset.stages), *((place,) for place in SINGLE_STAGES.get(name, ()))]
    subject = Subject.of(preset.sam, device)
    tick(f"{name}: first runs, which do not count")
    _, embedding = plain_run(subject, stages[0])
    staged_run(subject, stages[0], sizes.dropped[-1])
    for repeat in range(sizes.repeats):
        for after in stages:
            for dropped in sizes.dropped:
                tick(f"{name}: {dropped:.0%} dropped after {after}, run {repeat + 1} of {sizes.repeats}")
                yield {"part": "encoder", "size": name, "repeat": repeat, **_pair(subject, after, dropped, repeat)}
        laps = Laps(device)
        subject.sam.masks(embedding, subject.guidance[:, None])
        laps.lap(DECODER)
        count = sam_exact.mask_decoder(SamSizes.of(preset.sam)) / GIGA
        yield {"part": DECODER, "size": name, "repeat": repeat, "macs": count, **_times(laps, DECODER)}


def _pair(subject: Subject, after: tuple[int, ...], dropped: float, repeat: int) -> Sample:
    (plain, _), (staged, output) = paired(
        lambda: plain_run(subject, after), lambda: staged_run(subject, after, dropped), repeat
    )
    kept = {place: each.indices[0].tolist() for place, each in zip(after, output.selections, strict=True)}
    config = subject.sam.config
    return {
        "after": list(after),
        "dropped": dropped,
        "kept": [len(each) for each in kept.values()],
        "n": config.grid.n_tokens,
        "plain": {"macs": multiply_adds(config, after, {}), **_laps(plain)},
        "staged": {"macs": multiply_adds(config, after, kept), **_laps(staged)},
    }


def _guide(config: GuideConfig, sizes: Sizes, device: torch.device) -> Iterator[Sample]:
    """Time the tower and the language model, or one of its layers where the whole is too large, and count all."""
    from leanseg.models.vltp import mllm

    counts = {part: count / GIGA for part, count in guide(config, sizes.text_tokens).items()}
    layers = config.language.num_hidden_layers
    timed = layers if counts["language"] <= LARGEST_TIMED else 1
    length, side = config.vision.n_tokens + sizes.text_tokens, config.vision.image_size
    with torch.random.fork_rng(devices=[]):
        # Ids are not looked up.
        language = replace(config.language, num_hidden_layers=timed, vocab_size=4)
        model = mllm.build_mllm(replace(config, language=language)).eval().to(device)
        pixels, embeds = torch.randn(1, 3, side, side), torch.randn(1, length, language.hidden_size)
    pixels, embeds = pixels.to(device), embeds.to(device)
    ways: dict[str, tuple[float, Callable[[], object]]] = {
        f"vision tower, {config.vision.hidden_size} wide, and projector": (
            counts["vision"] + counts["projector"],
            lambda: mllm.image_features(model, pixels, config.vision.n_layers_run),
        ),
        f"{timed} of {layers} layers of the language model, {language.hidden_size} wide": (
            counts["language"] * timed / layers,
            lambda: mllm.read(model, embeds),
        ),
    }
    for name, (count, way) in ways.items():
        way()
        for repeat in range(sizes.repeats):
            laps = Laps(device)
            way()
            laps.lap(name)
            yield {"part": "guide", "name": name, "repeat": repeat, "macs": count, **_times(laps, name)}
    if timed < layers:
        yield {"part": "guide", "name": f"all {layers} layers of the language model", "macs": counts["language"]}


def _laps(laps: Laps) -> Sample:
    return {
        clock: {name: round(value, 3) for name, value in times.items()}
        for clock, times in (("cpu_ms", laps.cpu_ms), ("wall_ms", laps.wall_ms))
    }


def _times(laps: Laps, name: str) -> Sample:
    return {"cpu_ms": round(laps.cpu_ms[name], 3), "wall_ms": round(laps.wall_ms[name], 3)}
