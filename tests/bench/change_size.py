"""Measures what an export costs by the size of the change and of the database."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.bench.changing import change
from tests.bench.results import Table, Value, middle
from tests.bench.running import exporter, must, run_once
from tests.bench.scenario import Bench

CHANGED_ROWS = (1, 10, 1_000, 100_000)


def by_change(bench: Bench) -> list[Table]:
    """Change 1 to 100,000 annotations, scattered or of adjacent images, in SQLite and PostgreSQL."""
    images = bench.usual
    table = Table("change-size", f"Cost by size of the change, {images:,} images")
    with bench.databases.sqlite_copy(images) as path:
        _by_change(bench, table, "SQLite", path)
    _by_change(bench, table, "PostgreSQL", bench.databases.postgres(images))
    table.notes += [
        "process: `python -m autoexport`, start included; export: the same run by its manifest",
        "together: annotations of images that follow one another in the files; scattered: drawn from all",
    ]
    return [table]


def _by_change(bench: Bench, table: Table, kind: str, url: str | Path) -> None:
    exports = bench.exported(url)
    for scattered in (False, True):
        for rows in CHANGED_ROWS:
            row: dict[str, Value] = {"database": kind, "changed rows": rows}
            row["where"] = "scattered" if scattered else "together"
            table.rows.append(row | _cost(bench, url, exports, rows, scattered=scattered))
    full = [must(run_once([exporter(str(url), exports, "--full")], bench.scratch)) for _ in range(bench.rounds)]
    row = {"database": kind, "changed rows": "--full", "process_s": middle([run.seconds for run in full])}
    table.rows.append({**row, "cpu_s": middle([run.cpu_s for run in full]), "mode": "full"})


def by_database(bench: Bench) -> list[Table]:
    """Change one annotation at all sizes, in SQLite and PostgreSQL."""
    table = Table("database-size", "Cost of one changed row by size of the database")
    for images in bench.sizes:
        with bench.databases.sqlite_copy(images) as path:
            size_gb = path.stat().st_size / 1e9
            cost = _cost(bench, path, bench.exported(path), 1, scattered=True)
            table.rows.append({"database": "SQLite", "images": images, "file_gb": size_gb, **cost})
    for images in bench.sizes:
        url = bench.databases.postgres(images)
        cost = _cost(bench, url, bench.exported(url), 1, scattered=True)
        table.rows.append({"database": "PostgreSQL", "images": images, **cost})
    return [table]


def _cost(bench: Bench, url: str | Path, exports: Path, rows: int, *, scattered: bool) -> dict[str, Value]:
    process, cpu, export, changed, manifest, memory = [], [], [], 0, {}, 0.0
    for number in range(bench.rounds):
        changed = change(url, rows, scattered=scattered, seed=1000 * rows + number)
        os.sync()
        run = must(run_once([exporter(str(url), exports)], bench.scratch))
        manifest = json.loads((exports / "manifest.json").read_text())
        process.append(run.seconds)
        cpu.append(run.cpu_s)
        export.append(float(manifest["duration_seconds"]))
        memory = max(memory, run.memory_mb)
    cost: dict[str, Value] = {"process_s": middle(process), "cpu_s": middle(cpu), "export_s": middle(export)}
    cost["mode"] = manifest["mode"]
    cost |= {"rendered images": manifest["rendered_images"], "memory_mb": memory}
    if changed < rows:
        cost["remark"] = f"only {changed:,} rows there"
    return cost
