"""The exporter leaves nothing in the database that it reads: no byte, no row, no catalog entry."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.databases import Database, PostgresDatabase, SqliteDatabase
from tests.deadlines import deadline_s
from tests.properties.comparison import Exporting

CHANGE = "UPDATE annotations SET x_min = x_min + 1 WHERE id = (SELECT min(id) FROM annotations)"
HAS_POSTGRES = importlib.util.find_spec("autoexport.sources.postgres.source") is not None

_LOOK = """
import hashlib, json, pathlib, sys
path = pathlib.Path(sys.argv[1])
found = {}
for file in sorted(path.parent.iterdir()):
    if file.is_file():
        status = file.stat()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        found[file.name] = [digest, status.st_mtime_ns, status.st_mode, status.st_uid, status.st_size]
json.dump(found, sys.stdout)
"""
# In another process, because reading the file in the application's would take its locks away.


def files(database: SqliteDatabase) -> dict[str, list[Any]]:
    """Digest, time of modification, mode, owner and size of the database and of everything beside it."""
    command = [sys.executable, "-I", "-c", _LOOK, str(database.path)]
    found: dict[str, list[Any]] = json.loads(subprocess.check_output(command, timeout=deadline_s(60)))
    return found


def whole_cycles(database: Database, directory: Path) -> None:
    """Make a first, an idle and a full export, with no change in between."""
    exporting = Exporting(database.url, directory)
    assert asyncio.run(exporting.export()).outcome.published
    assert not asyncio.run(exporting.export()).outcome.published
    asyncio.run(exporting.export(full=True))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory for the exports that is not the database's own."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    return directory


def test_the_bytes_stay_while_it_is_idle(sqlite_database: SqliteDatabase, elsewhere: Path) -> None:
    """A database that no process has open keeps its bytes, times, mode and neighbours.

    Only an empty WAL and its index may appear, which SQLite needs for reading.
    """
    sqlite_database.close()
    before = files(sqlite_database)
    whole_cycles(sqlite_database, elsewhere)
    after = files(sqlite_database)
    for suffix in ("-wal", "-shm") if sqlite_database.kind == "sqlite-wal" else ():
        left = after.pop(sqlite_database.path.name + suffix, None)
        assert left is None or suffix == "-shm" or left[-1] == 0
    assert after == before


def test_the_bytes_stay_while_it_is_used(sqlite_database: SqliteDatabase, elsewhere: Path) -> None:
    """A database that the application has open in WAL mode, with commits not yet checkpointed, is not written.

    There is not even a checkpoint, and the application's session sees no write by another process.
    """
    sqlite_database.execute(CHANGE)
    versions = [sqlite_database.execute(f"PRAGMA {name}") for name in ("data_version", "schema_version")]
    before = files(sqlite_database)
    whole_cycles(sqlite_database, elsewhere)
    after = files(sqlite_database)
    for found in (before, after):
        found.pop(sqlite_database.path.name + "-shm", None)
    assert after == before
    assert versions == [sqlite_database.execute(f"PRAGMA {name}") for name in ("data_version", "schema_version")]


def test_only_the_application_changes_it(sqlite_database: SqliteDatabase, elsewhere: Path, tmp_path: Path) -> None:
    """With changes between incremental exports, the database ends as it would have without an exporter."""
    sqlite_database.close()
    alone = SqliteDatabase(tmp_path / "alone.sqlite3", sqlite_database.kind)
    alone.path.write_bytes(sqlite_database.path.read_bytes())
    exporting = Exporting(sqlite_database.url, elsewhere)
    for number in range(4):
        asyncio.run(exporting.export())
        for database in (sqlite_database, alone):
            database.execute(CHANGE)
            database.execute("UPDATE images SET filename = ?", f"{number}.png")
    for database in (sqlite_database, alone):
        database.close()
    assert sqlite_database.path.read_bytes() == alone.path.read_bytes()


_STATISTICS = """
SELECT relname, n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd, n_live_tup FROM pg_stat_user_tables
ORDER BY relname
"""
_CATALOGS = (
    "SELECT oid, relname, relkind, relfilenode, reloptions, relhastriggers FROM pg_class ORDER BY oid",
    "SELECT oid, tgname FROM pg_trigger ORDER BY oid",
    "SELECT oid, proname FROM pg_proc ORDER BY oid",
    "SELECT oid, nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg%temp%' ORDER BY oid",
    "SELECT oid, extname FROM pg_extension ORDER BY oid",
    "SELECT oid, pubname FROM pg_publication ORDER BY oid",
    "SELECT oid, evtname FROM pg_event_trigger ORDER BY oid",
    "SELECT slot_name FROM pg_replication_slots",
    "SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting ORDER BY 1, 2",
    "SELECT sum(tup_inserted), sum(tup_updated), sum(tup_deleted) FROM (SELECT n_tup_ins AS tup_inserted, "
    "n_tup_upd AS tup_updated, n_tup_del AS tup_deleted FROM pg_stat_all_tables "
    "WHERE schemaname NOT IN ('pg_catalog', 'pg_toast')) AS written",
)


@pytest.mark.skipif(not HAS_POSTGRES, reason="there is no PostgreSQL source yet")
def test_postgres_rows_and_catalogs_stay(elsewhere: Path) -> None:
    """No row or catalog entry is written, no transaction number used up, no slot or session left."""
    from tests.applications import fill_postgres
    from tests.postgres import running_server
    from tests.postgres_connection import PostgresConnection

    # Autovacuum uses up transaction numbers, too.
    with (
        running_server(settings={"autovacuum": "off"}) as server,
        server.database() as postgres_database,
        PostgresConnection(postgres_database) as connection,
    ):
        fill_postgres(connection)
        connection.execute("ANALYZE")
        connection.execute("SELECT pg_stat_force_next_flush()")
        before = [connection.execute(query) for query in (_STATISTICS, *_CATALOGS)]
        (transactions,) = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")[0]
        whole_cycles(PostgresDatabase(postgres_database), elsewhere)
        connection.execute("SELECT pg_stat_force_next_flush()")
        assert [connection.execute(query) for query in (_STATISTICS, *_CATALOGS)] == before
        assert connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text") == [(transactions,)]
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert connection.execute(query) == [(0,)]
