"""Measures an application's commits with and without a daemon that exports as often as its cooldown allows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.results import BenchError, Table, Value, middle, percentile, ratio
from tests.bench.running import answer_of, exporter, must, number_of, python, run_once
from tests.bench.scenario import Bench
from tests.daemon import Daemon, wait_until

INTERVAL_S = 0.05
"""The shortest interval that the settings allow, so that only its own cooldown holds the daemon back."""

CYCLES_WITHIN = 2.0
"""The measurement beside the daemon is this many times as long: the first exports follow each other sooner."""

AS_THE_UNIT = ("nice", "-n", "10")
"""The systemd units start the daemon with this priority."""

FIRST_EXPORT_LIMIT_S = 1800.0
QUIET_S = 10.0
"""Seconds of rest before each period, so that what an export wrote before it at full speed is not measured."""


@dataclass(frozen=True, slots=True)
class _Period:
    """The transactions of the application during one period."""

    taken_s: Sequence[float]
    begun_s: Sequence[float]
    locked: int
    lasted_s: float
    exports: int = 0
    daemon_cpu_share: float | None = None
    daemon_memory_mb: float | None = None

    @property
    def rate(self) -> float:
        return (len(self.taken_s) - self.locked) / self.lasted_s

    def between(self, start: float, end: float) -> _Period:
        """The transactions that began between these times (seconds since the epoch)."""
        pairs = zip(self.taken_s, self.begun_s, strict=True)
        inside = [(taken, begun) for taken, begun in pairs if start <= begun < end]
        return replace(
            self,
            taken_s=[taken for taken, _ in inside],
            begun_s=[begun for _, begun in inside],
            lasted_s=end - start,
        )

    def ms(self, share: float) -> float:
        return 1000 * (percentile(self.taken_s, share) or 0.0)


def impact_sqlite(bench: Bench) -> list[Table]:
    """Commit every 10 ms, with rollback journal and WAL."""
    table = Table("impact-sqlite", f"A writer committing every 10 ms, SQLite, {bench.usual:,} images")
    for journal, name in (("delete", "rollback journal"), ("wal", "WAL")):
        with bench.databases.sqlite_copy(bench.usual, journal=journal) as path:
            _compare(bench, table, name, path, "tests.bench.writer")
    table.notes += [
        "locked: transactions given up after a busy timeout of 1 s; synchronous = FULL, SQLite's default",
        *_notes(bench),
    ]
    return [table]


def impact_postgres(bench: Bench) -> list[Table]:
    """Let two clients run as fast as they can."""
    table = Table("impact-postgres", f"Two clients, short transactions, PostgreSQL, {bench.usual:,} images")
    url = bench.databases.postgres(bench.usual, indexed=True)
    _compare(bench, table, "PostgreSQL", url, "tests.bench.transactions")
    table.notes += [
        "fsync and synchronous_commit are on; server, clients and daemon share the machine",
        *_notes(bench),
    ]
    return [table]


def _notes(bench: Bench) -> list[str]:
    return [
        f"{bench.rounds} rounds with the daemon for {CYCLES_WITHIN:g} times {bench.seconds:g} s; before, between "
        f"and after them {bench.seconds:g} s without it; each after {QUIET_S:g} s of quiet "
        f"(`{' '.join(AS_THE_UNIT)}`, `--monitor --interval {INTERVAL_S}`, its first export done before)",
        "with us: from the end of the second export to the end of the last, so that every rest has its export; "
        "exports and `locked` are of the whole time",
        "p50 and p99 are medians of the rounds', max is over all; a round's ratio is to the mean of the periods "
        "before and after it, and the ratios are the medians of the rounds'",
    ]


def _compare(bench: Bench, table: Table, name: str, url: str | Path, module: str) -> None:
    """Measure the application with and without the daemon.

    `module` is the application: it takes the URL and the number of seconds to work.
    """
    exports = bench.exported(url)
    application = python(module, str(url), str(bench.seconds))
    longer = python(module, str(url), str(CYCLES_WITHIN * bench.seconds))
    without, with_us = [_alone(bench, application)], []
    for _ in range(bench.rounds):
        with_us.append(_beside_daemon(bench, url, exports, longer))
        without.append(_alone(bench, application))
    table.rows.append(_row(name, "without us", without))
    compared: dict[str, Value] = {
        "p99_ratio": ratio([one.ms(0.99) for one in with_us], _around([one.ms(0.99) for one in without])),
        "throughput_ratio": ratio([one.rate for one in with_us], _around([one.rate for one in without])),
        "exports": middle([one.exports for one in with_us]),
        "daemon cpu share": middle([one.daemon_cpu_share for one in with_us if one.daemon_cpu_share is not None]),
        "daemon_mb": max((one.daemon_memory_mb or 0.0 for one in with_us), default=None),
    }
    table.rows.append(_row(name, "with us", with_us) | compared)


def _around(values: Sequence[float]) -> list[float]:
    """For each period with the daemon, the mean of the periods before and after it.

    Some figures change with time even without the daemon, such as those of a growing table.
    """
    return [(before + after) / 2 for before, after in pairwise(values)]


def _row(name: str, which: str, periods: Sequence[_Period]) -> dict[str, Value]:
    return {
        "database": name,
        "application": which,
        "p50_ms": middle([one.ms(0.5) for one in periods]),
        "p99_ms": middle([one.ms(0.99) for one in periods]),
        "max_ms": max(one.ms(1.0) for one in periods),
        "locked": sum(one.locked for one in periods),
        "per second": round(middle([one.rate for one in periods]) or 0.0, 1),
    }


def _period(answer: dict[str, object]) -> _Period:
    taken, begun = answer["taken_s"], answer["begun_s"]
    assert isinstance(taken, list)
    assert isinstance(begun, list)
    return _Period(taken, begun, int(number_of(answer, "locked")), number_of(answer, "lasted_s"))


def _alone(bench: Bench, application: Sequence[str]) -> _Period:
    time.sleep(QUIET_S)
    return _period(answer_of(application, bench.scratch))


def _beside_daemon(bench: Bench, url: str | Path, exports: Path, application: Sequence[str]) -> _Period:
    # Export the changes of the period without the daemon, so that they are not measured with it.
    must(run_once([exporter(str(url), exports)], bench.scratch))
    with Daemon(str(url), exports, interval_s=INTERVAL_S, prefix=AS_THE_UNIT) as daemon:
        wait_until(
            lambda: daemon.events("export.published") or daemon.events("export.unchanged"),
            "the first export",
            FIRST_EXPORT_LIMIT_S,
            0.1,
        )
        time.sleep(QUIET_S)
        before, cpu_s, at = len(daemon.events("export.published")), _cpu_s(daemon), time.monotonic()
        seen = _period(answer_of(application, bench.scratch))
        share = (_cpu_s(daemon) - cpu_s) / (time.monotonic() - at)
        published = [_epoch_s(event) for event in daemon.events("export.published")[before:]]
        if len(published) < 3:
            raise BenchError(f"Only {len(published)} exports meanwhile, 3 are needed: raise --seconds.")
        memory_mb = _peak_mb(daemon)
        daemon.process.terminate()
        daemon.process.wait()
    steady = seen.between(published[1], published[-1])
    return replace(steady, exports=len(published), daemon_cpu_share=share, daemon_memory_mb=memory_mb)


def _epoch_s(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def _cpu_s(daemon: Daemon) -> float:
    """Processor time of the process so far (proc(5): utime and stime, after the name in parentheses)."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _peak_mb(daemon: Daemon) -> float:
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
