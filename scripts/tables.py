"""Fill the tables of README.md and docs/ from the records in results/.

That of docs/pruners.md comes from the registry, that of docs/attach.md from the layouts, those of docs/costs.md are
computed. With --plots, the plots of the studies are drawn again as well.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from leanseg.cli.pruners import describe
from leanseg.costs import report
from leanseg.engine.records import read_record
from leanseg.engine.study.base import KIND as STUDY
from leanseg.engine.study.page import studies_table
from leanseg.engine.study.registry import find
from leanseg.engine.tables import update_documents
from leanseg.hf.layouts import table as family_table

ROOT = Path(__file__).resolve().parents[1]
PRUNERS_PAGE = ROOT / "docs" / "pruners.md"
COSTS_PAGE = ROOT / "docs" / "costs.md"
ATTACH_PAGE = ROOT / "docs" / "attach.md"
STUDIES_PAGE = ROOT / "docs" / "studies.md"
_FAMILIES_BLOCK = re.compile(r"(<!-- families -->\n)(.*?)(<!-- /families -->)", re.DOTALL)
_STUDIES_BLOCK = re.compile(r"(<!-- studies -->\n)(.*?)(<!-- /studies -->)", re.DOTALL)
_PRUNERS_BLOCK = re.compile(r"(<!-- pruners -->\n)(.*?)(<!-- /pruners -->)", re.DOTALL)


def documents() -> list[Path]:
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "src/leanseg/assets").glob("*/README.md")),
    ]


def pruner_table() -> str:
    """Return one Markdown row per registered pruner and wrapper: the published first, then ours, then wrappers."""
    lines = ["| name | what it keeps | needs | source | its code | laws | options |", "|---" * 7 + "|"]
    for row in describe():
        open_ones = [f"`{name}=...`" for name in row["wraps"] + row["required"]]
        options = [f"`{name}={value!r}`" for name, value in row["options"].items()]
        cells = [
            f"`{row['name']}`",
            row["summary"],
            ", ".join(row["needs"]) or ("what it wraps needs" if row["wraps"] else "nothing"),
            row["paper"],
            row["licence"],
            ", ".join(row["laws"]),
            ", ".join(open_ones + options),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def render_pruners(text: str) -> str:
    """Return the text of the pruners' page with the table of today."""
    return _PRUNERS_BLOCK.sub(lambda match: f"{match[1]}{pruner_table()}\n{match[3]}", text)


def render_families(text: str) -> str:
    """Return the text of the page on `attach` with the families of today."""
    return _FAMILIES_BLOCK.sub(lambda match: f"{match[1]}{family_table()}\n{match[3]}", text)


def render_studies(text: str) -> str:
    """Return the text of the studies' page with the list of today."""
    return _STUDIES_BLOCK.sub(lambda match: f"{match[1]}{studies_table()}\n{match[3]}", text)


def draw_studies() -> list[Path]:
    """Draw the plot of every study's record, and return the pictures."""
    drawn = []
    for path in sorted((ROOT / "results" / "studies").glob("*.json")):
        record = read_record(path, STUDY)
        drawn.append(ROOT / "docs" / "images" / "studies" / f"{record['study']}.png")
        find(record["study"]).plot(record["analysis"], drawn[-1])
    return drawn


def update(page: Path, render: Callable[[str], str]) -> bool:
    """Rewrite a page if what `render` makes of it differs; return whether it did."""
    text = page.read_text(encoding="utf-8")
    rendered = render(text)
    if rendered != text:
        page.write_text(rendered, encoding="utf-8")
    return rendered != text


def main() -> None:
    pages = {
        COSTS_PAGE: report.render,
        ATTACH_PAGE: render_families,
        PRUNERS_PAGE: render_pruners,
        STUDIES_PAGE: render_studies,
    }
    changed = [page for page, render in pages.items() if update(page, render)]
    drawn = draw_studies() if "--plots" in sys.argv[1:] else []
    for path in [*drawn, *changed, *update_documents(documents(), ROOT)]:
        print(f"updated {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
