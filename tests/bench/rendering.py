"""Formats tables as text for a terminal or a README, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tests.bench.results import Table, Value

_UNITS = {"_per_gb_s": "s per GB", "_s": "s", "_ms": "ms", "_mb": "MB", "_gb": "GB"}
_DIGITS = {"_per_gb_s": 2, "_s": 3, "_ms": 1, "_mb": 0, "_gb": 2, "ratio": 2}


def as_text(table: Table) -> str:
    """A Markdown table under its title, the notes below it."""
    columns = table.columns()
    cells = [[_heading(column) for column in columns]]
    cells += [[_cell(column, row.get(column)) for column in columns] for row in table.rows]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    numeric = [any(isinstance(row.get(column), int | float) for row in table.rows) for column in columns]
    lines = [f"### {table.title}", ""]
    if columns:
        rule = [
            ("-" * (width - 1) + ":") if right else "-" * width
            for width, right in zip(widths, numeric, strict=True)
        ]
        lines += [_line(cells[0], widths, numeric), "|" + "|".join(f" {part} " for part in rule) + "|"]
        lines += [_line(line, widths, numeric) for line in cells[1:]]
        lines.append("")
    lines += [f"- {note}" for note in table.notes]
    return "\n".join(lines) + "\n"


def as_json(machine: Mapping[str, Value], tables: Sequence[Table]) -> str:
    """The machine and all tables as JSON."""
    return json.dumps({"machine": dict(machine), "tables": [asdict(table) for table in tables]}, indent=1)


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    aligned = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    ]
    return "|" + "|".join(f" {cell} " for cell in aligned) + "|"


def _heading(column: str) -> str:
    for ending, unit in _UNITS.items():
        if column.endswith(ending):
            return f"{column.removesuffix(ending).replace('_', ' ')} ({unit})"
    return column.replace("_", " ")


def _cell(column: str, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        digits = next((number for ending, number in _DIGITS.items() if column.endswith(ending)), 3)
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else value
