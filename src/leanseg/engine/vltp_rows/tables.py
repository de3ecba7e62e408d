"""Markdown tables of measured rows, in the shape of the paper's Tables 3 to 7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KIND = "vltp_rows"
TITLES = {
    "training": "what was trained",
    "rates": "dropped at {4, 6}",
    "positions": "after block, dropped %",
    "reactivation": "dropped",
    "methods": "method, dropped",
    "methods_again": "method, dropped; another seed",
    "untrained": "chosen at {4, 6} by, nothing trained for it",
    "guidance": "guidance",
}


def rows_table(table: str) -> Callable[[dict[str, Any]], str]:
    """Return what makes one of the tables from the record."""

    def made(record: dict[str, Any]) -> str:
        rows = [row for row in record["rows"] if row["table"] == table]
        lines = [
            f"| {TITLES[table]} | 1e9 multiply-adds | mIoU (gIoU) with 95 % interval | cIoU | loss to no pruning |",
            "|---" * 5 + "|",
        ]
        for row in rows:
            lines.append(
                f"| {row['label']} | {row['gmac']:.2f} | {row['giou']:.3f} ({row['low']:.3f} to {row['high']:.3f}) | "
                f"{row['ciou']:.3f} | {row['loss']:+.3f} ({row['loss_low']:+.3f} to {row['loss_high']:+.3f}) |"
            )
        return "\n".join(lines)

    return made
