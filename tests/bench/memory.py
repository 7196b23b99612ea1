"""Largest resident memory of a full and of an incremental export at all sizes."""

from __future__ import annotations

from pathlib import Path

from tests.bench.changing import change
from tests.bench.results import Table, Value
from tests.bench.running import exporter, must, run_once
from tests.bench.scenario import Bench

LIMIT_MB, SPREAD_MB = 100.0, 15.0


def memory(bench: Bench) -> list[Table]:
    """SQLite and PostgreSQL; the process of a one-time export as the kernel counts it."""
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
    table.notes.append("`ru_maxrss` of the exporting process; MB are 10^6 bytes")
    return [table]


def _largest(bench: Bench, url: str | Path) -> dict[str, Value]:
    exports = bench.fresh("exports")
    full = must(run_once([exporter(str(url), exports, "--full")], bench.scratch))
    change(url, 1, scattered=True, seed=7)
    one = must(run_once([exporter(str(url), exports)], bench.scratch))
    change(url, 1000, scattered=True, seed=8)
    many = must(run_once([exporter(str(url), exports)], bench.scratch))
    bench.fresh("exports")
    return {"full_mb": full.memory_mb, "1 row_mb": one.memory_mb, "1,000 rows_mb": many.memory_mb}
