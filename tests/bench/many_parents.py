"""Measures a database of many small datasets and of free text as labels: rows above the images cost as well.

python -m tests.bench.many_parents FILE DATASETS LABELS    creates such a database
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.applications import Row, create_sqlite
from tests.bench.memory import peak_mb
from tests.bench.peers import duckdb, duckdb_version, load_all
from tests.bench.results import BenchError, Table, Value, middle
from tests.bench.running import exporter, must, run_once
from tests.bench.scenario import Bench

SHAPES = ((20_000, 100_000), (10_000, 100), (50_000, 100), (20, 200_000))
"""The numbers of datasets of one image, and of labels that one annotation each carries."""

MOST_OVER_NAIVE, MOST_MB, MOST_OF_FULL = 2.0, 100.0, 0.12

_TIME = "2025-01-01 10:00:00"
_PER_PROJECT = 5_000


def many_parents(bench: Bench) -> list[Table]:
    """Compare with a program that loads everything and calls json.dump. The start is taken off both."""
    table = Table("many-parents", "Datasets of one image, and free text as labels")
    empty = bench.fresh("empty") / "empty.sqlite3"
    create_sqlite(empty, journal_mode="delete").close()
    starts = {name: _cpu(bench, empty, name) for name in ("ours", "naive")}
    has_duckdb = bool(duckdb_version(bench.duckdb))
    if has_duckdb:
        starts["duckdb"] = _cpu(bench, empty, "duckdb")
    for datasets, labels in SHAPES:
        path = bench.fresh("parents") / "parents.sqlite3"
        write(path, datasets, labels)
        full = _cpu(bench, path, "ours") - starts["ours"]
        naive = _cpu(bench, path, "naive") - starts["naive"]
        exports = bench.exported(path)
        _change(path, 0)
        one_mb = peak_mb(exporter(str(path), exports), bench.scratch)
        ones = []
        for number in range(1, bench.rounds + 1):
            _change(path, number)
            ones.append(must(run_once([exporter(str(path), exports)], bench.scratch)).cpu_s)
        one = (middle(ones) or 0.0) - starts["ours"]
        full_mb = peak_mb(exporter(str(path), bench.fresh("exports"), "--full"), bench.scratch)
        row: dict[str, Value] = {"datasets": datasets, "labels": labels, "full_cpu_s": full, "naive_cpu_s": naive}
        if has_duckdb:
            row["duckdb_cpu_s"] = _cpu(bench, path, "duckdb") - starts["duckdb"]
        row |= {"full_ratio": full / naive, "one_row_share": one / full, "full_mb": full_mb, "1 row_mb": one_mb}
        table.rows.append(row)
    table.notes += [
        f"limits: {MOST_OVER_NAIVE:.0f} times their CPU, {MOST_MB:.0f} MB, {MOST_OF_FULL} of a full export",
        "start taken off: " + ", ".join(f"{seconds:.2f} s of {name}" for name, seconds in starts.items()),
    ]
    return [table]


def _cpu(bench: Bench, path: Path, who: str) -> float:
    """The median processor seconds of a full export by this exporter, by the naive one or by DuckDB."""
    seconds = []
    for _ in range(bench.rounds):
        out = bench.fresh("output")
        commands = {
            "ours": lambda out: [exporter(str(path), out, "--full")],
            "naive": load_all("naive", path, 0).commands,
            "duckdb": duckdb(path, bench.duckdb).commands,
        }
        seconds.append(must(run_once(commands[who](out), bench.scratch)).cpu_s)
    found = middle(seconds)
    if found is None:
        raise BenchError("there was no round")
    return found


def _change(path: Path, number: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE annotations SET confidence = ? WHERE rowid = 7", (number / 1000,))
    connection.commit()
    connection.close()


def _tables(datasets: int, labels: int) -> Iterator[tuple[str, Iterator[Row]]]:
    projects = -(-datasets // _PER_PROJECT)
    yield (
        "projects",
        (
            (n, f"project {n}", "", _TIME, _TIME, None, 0.5, 0.45, "Object Detection")
            for n in range(1, projects + 1)
        ),
    )
    yield (
        "datasets",
        (
            (f"d{n:07}", f"patient {n}", "", n // _PER_PROJECT + 1, _TIME, _TIME, 0, 0, 0, 1, None)
            for n in range(datasets)
        ),
    )
    yield "labels", ((n + 1, f"transcription {n}", "#ffffff", n % projects + 1) for n in range(labels))
    yield "images", (
        (f"i{n:07}", "a.jpg", "a.jpg", f"p/{n}.jpg", 1000, 1920, 1080, "JPEG", f"d{n:07}", 1, 0, 0,
         "dataset", _TIME, _TIME, "train")
        for n in range(datasets)
    )  # fmt: skip
    shape = (0.5, 1.0, 2.0, 3.0, 4.0, "null", 1, 0, None, _TIME, _TIME)
    yield (
        "annotations",
        (
            (f"a{n:07}", f"i{n % datasets:07}", f"transcription {n % labels}", n % labels + 1, *shape)
            for n in range(max(datasets, labels))
        ),
    )


def write(path: Path, datasets: int, labels: int) -> None:
    """Create a new SQLite file. Names of labels beyond `labels` have no label row."""
    connection = create_sqlite(path, journal_mode="delete")
    connection.execute("BEGIN")
    for table, rows in _tables(datasets, labels):
        for row in rows:
            connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
    connection.execute("COMMIT")
    connection.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
