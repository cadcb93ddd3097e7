"""What is shown, as a CSV file that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

MAX_ROWS = 100_000
_FORMULA = ("=", "+", "-", "@", "\t", "\n")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV with a header line from the first row's keys, at most 100,000 rows; texts like formulas get a `'`."""
    if not rows:
        return ""
    out = io.StringIO()
    names = list(rows[0])
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in names])
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows[:MAX_ROWS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        value = ", ".join(str(one) for one in value)
    if isinstance(value, str):
        # a lone CR is not quoted by the writer, but ends a line for readers: what follows would start a cell
        value = value.replace("\r\n", "\n").replace("\r", "\n")
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value


def file_name(title: str, scope: Sequence[str]) -> str:
    """A file name that says what is inside: title and filters, letters, digits and dashes only."""
    words = "-".join(("limelight", title, *scope))
    return "-".join("".join(c if c.isalnum() else " " for c in words).split()).lower()[:120] + ".csv"
