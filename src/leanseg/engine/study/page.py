"""Markdown of studies: tables by rows, and the section of `docs/studies.md` that a record makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leanseg.engine.study.markdown import table
from leanseg.engine.study.registry import STUDIES, find


def study_section(record: Mapping[str, Any]) -> str:
    """Return what a study's record says: question, data, findings, picture, tables, command."""
    study, analysis = find(record["study"]), record["analysis"]
    parts = [f"*{study.question}*", _data(record), "\n".join(f"* {each}" for each in study.sentences(analysis))]
    parts.append(f"![{study.name}](images/studies/{study.name}.png)")
    for title, text in study.tables(analysis).items():
        parts += [f"**{title}**", text]
    return "\n\n".join([*parts, f"```sh\n{record['command']}\n```"])


def studies_table() -> str:
    """Return the studies that there are, with their questions."""
    return table(("study", "question"), [(f"`{name}`", study.question) for name, study in STUDIES.items()])


def _data(record: Mapping[str, Any]) -> str:
    used = record["evaluations"].values()
    models: Sequence[str] = sorted({each["model"] for each in used})
    data = ", ".join(f"{each['n_samples']} of `{each['data']}`" for each in used)
    failed = sum(each["n_failures"] for each in used)
    return f"Measured on {data}, generated scenes, with `{'`, `'.join(models)}`; {failed} failed answers."
