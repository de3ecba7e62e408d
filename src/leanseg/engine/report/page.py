"""Puts a report together: from a record, and where they are at hand its model and data, to one HTML page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from leanseg.engine.evaluation.grid import Row
from leanseg.engine.evaluation.request import Request, plan
from leanseg.engine.evaluation.scorings import scoring_of
from leanseg.engine.evaluation.worker import Evaluation
from leanseg.engine.report import cases, measured
from leanseg.engine.report.sections import LABELS, Section, circumstances, scores
from leanseg.engine.tables import by_kind, summarise
from leanseg.errors import DataError, InputError, LeansegError, unknown_name

_LATENCY_SAMPLES = 10


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """Which record becomes a page. `rows` are those whose cases are shown: by default the first at a fifth kept.

    `model` and `root` are where the record's model and data lie on this machine; without the model there are no cases,
    no costs and no latency. `cases` False leaves out all that must be run.
    """

    record: dict[str, Any]
    model: str | None = None
    root: Path | None = None
    rows: tuple[str, ...] = ()
    device: str = "cpu"
    cases: bool = True


def build(request: ReportRequest, progress: Callable[[str], None] | None = None) -> str:
    """Return the page. `progress` is called with what is being done.

    Raises:
        DataError: the record cannot be read as an evaluation, a row is not in it, or the data set is not there.
        InputError: the model at hand has other weights than the record's.
    """
    record = _checked(request.record)
    rows = _shown_rows(record, request.rows)
    told = progress or (lambda _: None)
    evaluation = _evaluation(request, record, rows) if request.cases else None
    sections = scores(record, rows)
    if evaluation is not None:
        told("cases")
        segmenter: Any = evaluation.make()
        sections += _cases(record, evaluation, segmenter, rows)
        told("latency")
        sections += [*_costs(record, evaluation, segmenter), _latency(evaluation, segmenter, rows)]
    sections += circumstances(record)
    told("page")
    return _rendered(record, sections)


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in ("data", "model", "rows", "samples", "scoring", "options") if name not in record]
    if missing:
        raise DataError(
            f"the record has no {', '.join(missing)}; expected one of leanseg eval as it is now; make it again"
        )
    try:
        scoring = scoring_of(record)
        for row in [Row(**each) for each in record["rows"]]:
            scoring.series(record["samples"], row.name)
        # Worked out anew: what a record says of itself is its writer's word.
        whole = {**record, "summary": summarise(record)}
        _ = (
            whole["summary"][0]["measure"],
            by_kind(whole),
            [(line["index"], line["id"], line["instruction"]) for line in whole["samples"]],
        )
    except LeansegError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"the record cannot be read ({type(error).__name__}: {error}); expected one of leanseg eval as it is now; "
            "make it again"
        ) from error
    return whole


def _shown_rows(record: dict[str, Any], asked: tuple[str, ...]) -> list[Row]:
    known = {row["name"]: row for row in record["rows"]}
    if not asked:
        pruned = [row for row in record["rows"] if row["pruner"]]
        asked = tuple(row["name"] for row in sorted(pruned, key=lambda row: abs(row["keep_ratio"] - 0.2))[:1])
    for name in asked:
        if name not in known or not known[name]["pruner"]:
            raise DataError(unknown_name("pruned row", name, [row for row in known if known[row]["pruner"]]))
    return [Row(**known[name]) for name in asked]


def _evaluation(request: ReportRequest, record: dict[str, Any], rows: list[Row]) -> Evaluation:
    """Return the evaluation whose samples are asked again. A record names no model that this machine would fetch."""
    from leanseg.engine.segmenter import shipped_models

    model = request.model or record["model"]
    if request.model is None and model not in shipped_models():
        raise InputError(
            f"the record's model is {model!r}, which is not in the package; say where it lies on this machine with "
            "--model, or leave out what must be run with --no-cases"
        )
    options, scoring = record["options"], dict(record["scoring"])
    everything = next(Row(**row) for row in record["rows"] if row["name"] == "all")
    scoring.pop("name")
    found = plan(
        Request(
            out=Path("unused.json"), model=model, data=record["data"], root=request.root,
            # Whether links lead out of the root is for this machine to decide, not for a record.
            data_options={k: v for k, v in record.get("data_options", {}).items() if k != "links"},
            protocol=scoring, device=request.device, cache_bytes=0,
            rows=(everything, *rows), **{name: options[name] for name in ("site", "position_ids") if name in options},
        )
    )  # fmt: skip
    if found.subject["weights"] != record["weights"]:
        raise InputError(
            f"the weights of {model!r} are not those of the record ({str(record['weights'])[:12]}); give the model "
            "that was evaluated with --model, or leave out what must be run with --no-cases"
        )
    return found


def _cases(record: dict[str, Any], evaluation: Evaluation, segmenter: Any, rows: list[Row]) -> list[Section]:
    scoring, lines = scoring_of(record), record["samples"]
    label = LABELS[scoring.measure]
    sections = []
    for row in rows:
        chosen = cases.choose(lines, scoring.series(lines, "all"), scoring.series(lines, row.name), row.name)
        figures = []
        for case in chosen:
            answered = cases.answer(evaluation, segmenter, case.line["index"], row)
            caption = (
                f"{case.rule}: “{case.line['instruction']}” ({case.line['id']}); {label} {case.everything:.3f} with "
                f"all tokens, {case.pruned:.3f} with {row.name}"
            )
            figures.append((caption, b64encode(cases.figure(answered, segmenter.layout)).decode()))
        text = (
            "Chosen by rule among all samples: the largest gain, the median change and the largest loss against all "
            "tokens. Pictures: original, target (blue), answer with all tokens above; kept tokens, their places and "
            "the answer below. Clips: target, answer with all tokens, kept tokens, answer."
        )
        sections.append(Section(f"Cases: {row.name}", text, figures=figures))
    return sections


def _costs(record: dict[str, Any], evaluation: Evaluation, segmenter: Any) -> list[Section]:
    """Return InstructSeg's costs; those of VLTP depend on its stages: `leanseg flops vltp`."""
    if not evaluation.tasks:
        return []
    ratios = sorted({row["keep_ratio"] for row in record["rows"] if row["pruner"]})
    found = measured.costs(segmenter.config, ratios, is_clip=record["summary"][0]["measure"] != "giou")
    table = [["tokens kept", "paper mode, released sizes", "exact mode, this model"]]
    table += [[f"{100 * row['keep_ratio']:g} %", f"{row['paper']:.4f}", f"{row['exact']:.4f}"] for row in found]
    text = (
        "1e12 multiply-adds of one answer on a typical input. Paper mode evaluates the published closed form at the "
        "released model's sizes; exact mode counts what this model runs. The columns do not compare."
    )
    return [Section("Costs", text, [table])]


def _latency(evaluation: Evaluation, segmenter: Any, rows: list[Row]) -> Section:
    indices = list(evaluation.indices[:_LATENCY_SAMPLES])
    found = measured.latency(evaluation, segmenter, indices, [evaluation.rows[0], *rows])
    names = [name for name in found[0] if name not in ("row", "n")]
    table = [["", *names]]
    table += [[row["row"], *(f"{1000 * row[name]:.1f} ms" for name in names)] for row in found]
    text = (
        f"Median over {found[0]['n']} samples, one after the other in one process on {segmenter.model.device}, nothing "
        "kept between answers; measured when this page was made."
    )
    return Section("Latency", text, [table])


def _rendered(record: dict[str, Any], sections: list[Section]) -> str:
    from jinja2 import Environment, StrictUndefined

    source = (files("leanseg") / "assets" / "report" / "report.html").read_text(encoding="utf-8")
    # Escaped throughout: a record is a stranger's text. Only the plot, which is drawn here, goes in as it is.
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(source)
    generated = str(record["data"]).startswith("scenes:")
    return template.render(title=f"{record['model']} on {record['data']}", generated=generated, sections=sections)
