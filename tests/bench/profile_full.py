"""Measures where the time of a full export goes."""

from __future__ import annotations

import os

from tests.bench.results import Table, Value, middle
from tests.bench.running import answer_of, number_of, python
from tests.bench.scenario import Bench
from tests.bench.stations import ORDER


def profile(bench: Bench) -> list[Table]:
    """Time every step of a full export, in SQLite and PostgreSQL."""
    images = bench.usual
    urls = {
        "SQLite": str(bench.databases.sqlite(images)),
        "SQLite, indexed": str(bench.databases.sqlite(images, indexed=True)),
        "PostgreSQL": bench.databases.postgres(images),
    }
    found: dict[str, list[dict[str, object]]] = {name: [] for name in urls}
    for _ in range(bench.rounds):
        for name, url in urls.items():
            directory = bench.fresh("profiled")
            os.sync()
            arguments = python("tests.bench.stations", url, str(directory), "--full")
            found[name].append(answer_of(arguments, bench.scratch))
    table = Table("profile", f"A full export of {images:,} images: where the time goes")
    for part in ORDER:
        row: dict[str, Value] = {}
        for name, answers in found.items():
            parts = [answer["parts"] for answer in answers]
            row[f"{name} (s)"] = middle([one[part] for one in parts if isinstance(one, dict) and part in one])
        if any(row.values()):
            table.rows.append({"part": part, **row})
    whole = {
        f"{name} (s)": middle([number_of(answer, "total_s") for answer in answers])
        for name, answers in found.items()
    }
    table.rows.append({"part": "the whole export", **whole})
    table.notes.append(
        "query is waiting for rows; rows are fetched while others are rendered, so the sum may exceed the whole"
    )
    return [table]
