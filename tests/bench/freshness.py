"""Measures how soon a daemon publishes an isolated change, and what a database that always changes costs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.bench.changing import change
from tests.bench.results import Table, Value, middle
from tests.bench.running import answer_of, python
from tests.bench.scenario import Bench
from tests.daemon import Daemon, generation, wait_until

INTERVAL_S = 1.0
APART_S = 30.0
CHANGES = 10
BUSY_S = 600.0
"""The budget of the exports is one of ten minutes."""

_LIMIT_S = 1800.0


def freshness(bench: Bench) -> list[Table]:
    """Change a row right after the first publish, then ten times, 30 s apart; then commit all the time."""
    table = Table("freshness", f"Seconds from a commit to the files, and a daemon's cost, {bench.usual:,} images")
    for journal, name in (("delete", "rollback journal"), ("wal", "WAL")):
        with bench.databases.sqlite_copy(bench.usual, journal=journal) as path:
            table.rows.append({"database": name, **_measured(bench, path)})
    table.notes += [
        f"`--monitor --interval {INTERVAL_S:g}`; first: a commit at the moment of the first publish",
        f"apart: {CHANGES} commits, {APART_S:g} s apart; export: one changed row as a daemon exports it",
        f"busy: a commit every 10 ms for {BUSY_S:g} s; processor time of the daemon and its processes",
    ]
    return [table]


def _measured(bench: Bench, path: Path) -> dict[str, Value]:
    exports = bench.fresh("fresh-exports")
    with Daemon(str(path), exports, interval_s=INTERVAL_S) as daemon:
        wait_until(lambda: generation(exports) == 1, "the first export", _LIMIT_S, 0.01)
        first_s = _published_after(path, exports, 0)
        delays = []
        for number in range(1, CHANGES + 1):
            time.sleep(APART_S)
            delays.append(_published_after(path, exports, number))
        export_s = [event["seconds"] for event in daemon.events("export.published")][1:]
        exported = len(daemon.events("snapshot.opened"))
        cpu_s, began, before = _cpu_s(daemon), time.monotonic(), len(daemon.events("export.published"))
        answer_of(python("tests.bench.writer", str(path), str(BUSY_S)), bench.scratch)
        share = (_cpu_s(daemon) - cpu_s) / (time.monotonic() - began)
        published = len(daemon.events("export.published")) - before
    return {
        "first_s": first_s, "apart_median_s": middle(delays), "apart_longest_s": max(delays),
        "export_median_s": middle(export_s), "export_longest_s": max(export_s),
        "snapshots": exported, "busy: exports": published, "busy: core share": round(share, 3),
    }  # fmt: skip


def _published_after(path: Path, exports: Path, seed: int) -> float:
    """Seconds from the commit of a change to the publish of the next generation."""
    before = generation(exports)
    change(path, 1, scattered=True, seed=seed)
    committed = time.monotonic()
    wait_until(lambda: generation(exports) > before, "the change is published", _LIMIT_S, 0.01)
    return time.monotonic() - committed


def _cpu_s(daemon: Daemon) -> float:
    """Processor time so far, that of ended children included (proc(5): after the name in parentheses)."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
