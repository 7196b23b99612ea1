"""Measures full exports by this exporter, peers and limits on the same rows, in SQLite and PostgreSQL."""

from __future__ import annotations

from tests.bench.peers import (
    copy_files,
    copy_rows,
    duckdb,
    load_all,
    ours,
    ours_by,
    psql_tree,
    read_rows,
    sqlite_shell,
    sqlite_utils,
)
from tests.bench.results import Table
from tests.bench.running import race, standing
from tests.bench.scenario import Bench

_FILES = ("database_export.json", "images.csv", "projects.csv", "datasets.csv", "manifest.json")
_RATIO = "our ratio: our time over theirs, the median of the rounds' ratios; process start included; cpu likewise"


def full_sqlite(bench: Bench) -> list[Table]:
    """Measure all sizes, with and without indexes, with rollback journal and WAL."""
    table = Table("full-sqlite", "Full export, SQLite", notes=[_RATIO])
    table.notes.append("all but the shell read the file without indexes, rollback journal, unless said")
    table.notes.append("peers make no projects.csv, no datasets.csv and no counts in the tree")
    for images in bench.sizes:
        plain = bench.databases.sqlite(images)
        indexed = bench.databases.sqlite(images, indexed=True)
        wal = bench.databases.sqlite(images, journal="wal")
        indexed_wal = bench.databases.sqlite(images, indexed=True, journal="wal")
        exports = bench.exported(plain, "published")
        contenders = [
            ours("autoexport", plain),
            ours("autoexport, one worker", plain, "--workers", "1"),
            *ours_by(bench.other_pythons, plain),
            ours("autoexport, indexed", indexed),
            ours("autoexport, WAL", wal),
            ours("autoexport, indexed, WAL", indexed_wal),
            sqlite_shell(indexed, images),
            duckdb(plain, bench.duckdb),
            load_all("load all, json.dump", plain, images),
            sqlite_utils(plain),
            read_rows("limit: sqlite3 module, rows read", plain),
            copy_files("limit: cp of the database", [plain]),
            copy_files("limit: cp of our output", [exports / name for name in _FILES]),
        ]
        table.rows += standing(race(contenders, bench.rounds, bench.scratch), images)
    return [table]


def full_postgres(bench: Bench) -> list[Table]:
    """Measure all sizes, with and without indexes on the foreign keys.

    The peer groups the rows, so it needs no indexes.
    """
    table = Table("full-postgres", "Full export, PostgreSQL", notes=[_RATIO])
    table.notes.append("memory is the client's: what the server uses to build json_agg is not in it")
    for images in bench.sizes:
        url = bench.databases.postgres(images)
        exports = bench.exported(url, "published")
        contenders = [
            ours("autoexport", url),
            ours("autoexport, one worker", url, "--workers", "1"),
            *ours_by(bench.other_pythons, url),
            ours("autoexport, indexed", bench.databases.postgres(images, indexed=True)),
            psql_tree(url),
            duckdb(url, bench.duckdb),
            load_all("load all, json.dump", url, images),
            read_rows("limit: asyncpg, rows read in order", url),
            copy_rows("limit: COPY (SELECT …) TO STDOUT", url, ordered=False),
            copy_rows("limit: the same, in order", url, ordered=True),
            copy_files("limit: cp of our output", [exports / name for name in _FILES]),
        ]
        table.rows += standing(race(contenders, bench.rounds, bench.scratch), images)
    return [table]
