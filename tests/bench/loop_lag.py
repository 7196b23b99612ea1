"""Measures how late an application's event loop is while a full export runs in it."""

from __future__ import annotations

import os

from tests.bench.results import Table, Value, middle
from tests.bench.running import answer_of, number_of, python
from tests.bench.scenario import Bench

P99_LIMIT_MS, WORST_LIMIT_MS = 10.0, 50.0


def loop_lag(bench: Bench) -> list[Table]:
    """Measure ticks of 5 ms in one loop, first idle, then with a full export, in SQLite and PostgreSQL."""
    images = bench.usual
    table = Table("loop-lag", f"Event-loop lag of an application with a full export of {images:,} images in it")
    for name, url in (
        ("SQLite", str(bench.databases.sqlite(images))),
        ("PostgreSQL", bench.databases.postgres(images)),
    ):
        answers = []
        for _ in range(bench.rounds):
            directory = bench.fresh("embedded")
            os.sync()
            answers.append(answer_of(python("tests.bench.embedded", url, str(directory)), bench.scratch))
        for which in ("idle", "busy"):
            table.rows.append({"database": name, "loop": which, **_row(answers, which)})
    table.notes += [
        "p50 and p99 are medians of the rounds', worst is over all",
        "a stall counts once for every tick that it swallows",
        f"limits: p99 {P99_LIMIT_MS:g} ms, worst {WORST_LIMIT_MS:g} ms",
    ]
    return [table]


def _row(answers: list[dict[str, object]], which: str) -> dict[str, Value]:
    measured = [one for answer in answers if isinstance(one := answer[which], dict)]
    row: dict[str, Value] = {
        name: middle([number_of(one, name) for one in measured]) for name in ("p50_ms", "p99_ms")
    }
    row["worst_ms"] = max(number_of(one, "worst_ms") for one in measured)
    if which == "busy":
        row["export_s"] = middle([number_of(answer, "export_s") for answer in answers])
    return row
