"""Fill the tables of README.md and docs/ from the records in results/."""

from __future__ import annotations

from pathlib import Path

from leanseg.engine.tables import update_documents

ROOT = Path(__file__).resolve().parents[1]


def documents() -> list[Path]:
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "src/leanseg/assets").glob("*/README.md")),
    ]


def main() -> None:
    for path in update_documents(documents(), ROOT):
        print(f"updated {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
