"""Measures how long an export keeps a writer out in rollback-journal mode, per GB of database."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from pathlib import Path

from tests.bench.changing import change
from tests.bench.results import Table, Value, middle
from tests.bench.running import answer_of, number_of, python
from tests.bench.scenario import Bench

LIMIT_PER_GB_S = 2.0
PROBE_EVERY_S = 0.001


class WriterProbe:
    """Polls for the exclusive lock, and notes the longest time in seconds for which it was refused.

    A refusal costs a reader nothing: it leaves no lock behind.
    """

    def __init__(self, path: Path) -> None:
        self.longest_s = 0.0
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._probe_forever, name="probe")

    def __enter__(self) -> WriterProbe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _probe_forever(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None, timeout=0)) as connection:
            refused_since = None
            while not self._stop.wait(PROBE_EVERY_S):
                now = time.perf_counter()
                try:
                    connection.execute("BEGIN EXCLUSIVE")
                    connection.execute("ROLLBACK")
                except sqlite3.OperationalError as exc:
                    if "locked" not in str(exc):
                        raise
                    refused_since = refused_since if refused_since is not None else now
                    self.longest_s = max(self.longest_s, time.perf_counter() - refused_since)
                else:
                    refused_since = None


def read_lock(bench: Bench) -> list[Table]:
    """Measure the first export and one of a changed row at all sizes, and the time of the copy."""
    table = Table("read-lock", "Longest time a writer is kept out, rollback journal")
    for images in bench.sizes:
        with bench.databases.sqlite_copy(images) as path:
            size_gb = path.stat().st_size / 1e9
            exports = bench.scratch / "exports"
            for what in ("full", "one row"):
                held, copied = [], []
                for number in range(bench.rounds):
                    if what == "full":
                        exports = bench.fresh("exports")
                    else:
                        change(path, 1, scattered=True, seed=number)
                    os.sync()
                    with WriterProbe(path) as probe:
                        answer = answer_of(python("tests.bench.stations", str(path), str(exports)), bench.scratch)
                    held.append(probe.longest_s)
                    parts = answer["parts"]
                    assert isinstance(parts, dict)
                    copied.append(number_of(parts, "copy"))
                table.rows.append(
                    {"images": images, "file_gb": size_gb, "export": what, **_row(held, copied, size_gb)}
                )
    table.notes += [
        "held: the longest run of refusals of a writer, worst of the rounds; "
        f"it tried every {1000 * PROBE_EVERY_S:g} ms",
        f"limit: {LIMIT_PER_GB_S:g} s per GB; GB are 10^9 bytes; the file is in the page cache",
    ]
    return [table]


def _row(held: list[float], copied: list[float], size_gb: float) -> dict[str, Value]:
    copy_s = middle(copied) or 0.0
    return {
        "held_s": max(held),
        "held_per_gb_s": max(held) / size_gb,
        "copy_s": copy_s,
        "copy_per_gb_s": copy_s / size_gb,
    }
