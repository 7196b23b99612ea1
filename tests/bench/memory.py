"""Measures the largest resident memory of full and incremental exports at all sizes."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil

from tests.bench.changing import change
from tests.bench.results import BenchError, Table, Value
from tests.bench.running import Command, environment, exporter
from tests.bench.scenario import Bench

LIMIT_MB, SPREAD_MB = 100.0, 15.0


def memory(bench: Bench) -> list[Table]:
    """Measure one-time exports of SQLite and PostgreSQL, with the process that renders for them."""
    table = Table("memory", "Largest resident memory")
    for images in bench.sizes:
        with bench.databases.sqlite_copy(images) as path:
            table.rows.append({"database": "SQLite", "images": images, **_largest(bench, path)})
    for images in bench.sizes:
        url = bench.databases.postgres(images)
        table.rows.append({"database": "PostgreSQL", "images": images, **_largest(bench, url)})
    for kind in ("SQLite", "PostgreSQL"):
        full = [
            value for row in table.rows if row["database"] == kind and isinstance(value := row["full_mb"], float)
        ]
        kept = "kept" if max(full) <= LIMIT_MB and max(full) - min(full) <= SPREAD_MB else "NOT kept"
        spread = f"{max(full) - min(full):.0f} MB between the sizes, at most {max(full):.0f} MB"
        table.notes.append(f"{kind}, full: {spread}; limits {SPREAD_MB:.0f} and {LIMIT_MB:.0f} MB {kept}")
    table.notes.append(
        "all processes of the export together, pages that they share counted once (PSS, looked at every 20 ms)"
    )
    return [table]


def _largest(bench: Bench, url: str | Path) -> dict[str, Value]:
    exports = bench.fresh("exports")
    full = peak_mb(exporter(str(url), exports, "--full"), bench.scratch)
    change(url, 1, scattered=True, seed=7)
    one = peak_mb(exporter(str(url), exports), bench.scratch)
    change(url, 1000, scattered=True, seed=8)
    many = peak_mb(exporter(str(url), exports), bench.scratch)
    bench.fresh("exports")
    return {"full_mb": full, "1 row_mb": one, "1,000 rows_mb": many}


def peak_mb(command: Command, scratch: Path) -> float:
    """The most resident memory of a command and its children at one time, in 10^6 bytes. Raises BenchError."""
    process = psutil.Popen(command.arguments, cwd=scratch, env=environment(), stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(_resident, [process, *_children(process)])))
        time.sleep(0.02)
    if process.returncode:
        raise BenchError(f"the export failed ({process.returncode})")
    return peak / 1e6


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.Error:
        return []
    return found


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, OSError):
        return 0
