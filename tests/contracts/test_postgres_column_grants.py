"""A role that may read some columns of a table, and tables that cannot be locked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoexport.errors import MappingError
from autoexport.mapping.mapper import map_catalog
from autoexport.sources.postgres import source
from autoexport.sources.postgres.known_catalog import KnownCatalog
from autoexport.sources.reader import SnapshotReader
from tests.conftest import run_autoexport
from tests.contracts.postgres_snapshots import snapshot_of, source_of
from tests.postgres_connection import PostgresConnection
from tests.trials import Trial

COLUMNS = """
SELECT table_name::text, string_agg(quote_ident(column_name::text), ', ') FROM information_schema.columns
WHERE table_schema = 'public' GROUP BY 1
"""
REPLACE = """
BEGIN; CREATE TEMP TABLE saved ON COMMIT DROP AS TABLE {table}; TRUNCATE {table};
INSERT INTO {table} SELECT * FROM saved; COMMIT
"""


def grant(application: PostgresConnection, *, without: tuple[str, ...] = (), also: str = "") -> None:
    """Let `reader` read all columns, one by one, except those of these names."""
    for table, names in application.execute(COLUMNS):
        columns = ", ".join(name for name in names.split(", ") if name not in without)
        application.script(f"GRANT SELECT ({columns}{also}) ON {table} TO reader")


@pytest.fixture
def reader_url(url: str) -> str:
    """The sample rows, read by a role without a right of its own."""
    return url.replace("application:", "reader:", 1)


def test_the_same_files(url: str, reader_url: str, application: PostgresConnection, tmp_path: Path) -> None:
    """All columns are granted, but not the tables: the files are those of the owner."""
    grant(application)
    owner, reader = Trial(url, tmp_path / "owner"), Trial(reader_url, tmp_path / "reader")
    owner.export()
    reader.export()
    assert reader.contents() == owner.contents()
    assert reader.differences() == []
    application.execute("UPDATE images SET filename = 'renamed.jpg'")
    assert reader.export().manifest.mode == "full"
    assert reader.differences() == []


def test_a_column_without_a_grant(reader_url: str, application: PostgresConnection, tmp_path: Path) -> None:
    """It counts as missing: its field is null, and `check` names it."""
    grant(application, without=("width", "description"))
    Trial(reader_url, tmp_path / "exports").export()
    tree = json.loads((tmp_path / "exports" / "database_export.json").read_text())
    image = tree["projects"][0]["datasets"][0]["images"][0]
    assert image["width"] is None
    assert image["height"] is not None
    checked = run_autoexport("--database-url", reader_url, "check", cwd=tmp_path)
    assert checked.exit_code == 0
    said = " ".join(checked.stdout.split())
    assert "This role may not read these columns of public.images: width" in said
    assert "images.width" in said.partition("Not found")[2]
    assert "Every export is a full one: public.images.xmin" in said
    assert "none of them is exported" not in said


def test_incremental_with_xmin(reader_url: str, application: PostgresConnection, tmp_path: Path) -> None:
    """The system column is granted as well: exports are incremental."""
    grant(application, also=", xmin")
    trial = Trial(reader_url, tmp_path / "exports")
    trial.export()
    application.execute("UPDATE images SET filename = 'one.jpg' WHERE id = (SELECT min(id) FROM images)")
    assert trial.export().manifest.mode == "incremental"
    assert trial.differences() == []


async def test_a_required_column_without_a_grant(reader_url: str, application: PostgresConnection) -> None:
    """Without the key there is no export."""
    grant(application, without=("id",))
    with pytest.raises(MappingError, match="key"):
        async with snapshot_of(reader_url):
            pass


# --- tables that cannot be locked ----------------------------------------------------------------


@pytest.fixture
def after_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Lets something happen twice, between the first statement of a snapshot and reading the tables.

    Twice, because the first snapshot is given up if it shows that other tables have to be locked.
    """

    def arrange(act: Callable[[], object]) -> None:
        read_catalog = KnownCatalog.read
        left = [act, act]

        async def read(*arguments: Any) -> Any:
            declared = await read_catalog(*arguments)
            if left:
                left.pop()()
            return declared

        monkeypatch.setattr(KnownCatalog, "read", read)

    return arrange


async def annotations_of(url: str) -> int:
    """The annotations of a new snapshot."""
    source_ = source_of(url)
    async with source_.snapshot() as snapshot:
        return (await SnapshotReader(snapshot, map_catalog(snapshot.catalog)).totals()).live["annotations"]


async def test_truncated_after_the_snapshot(
    reader_url: str,
    application: PostgresConnection,
    after_the_snapshot: Callable[[Callable[[], object]], None],
) -> None:
    """A table that is rewritten before it is locked is not taken for an empty one."""
    grant(application)
    before = await annotations_of(reader_url)
    assert before
    after_the_snapshot(lambda: application.script(REPLACE.format(table="annotations")))
    assert await annotations_of(reader_url) == before


async def test_replaced_after_the_snapshot(
    reader_url: str,
    application: PostgresConnection,
    after_the_snapshot: Callable[[Callable[[], object]], None],
) -> None:
    """A migration fills a new table and gives it the name of the old one, whose file stays."""
    grant(application)
    before = await annotations_of(reader_url)
    ((columns,),) = [(names,) for table, names in application.execute(COLUMNS) if table == "annotations"]
    numbers = iter(range(9))

    def replace() -> None:
        number = next(numbers)
        application.script(
            f"BEGIN; CREATE TABLE fresh (LIKE annotations INCLUDING ALL); INSERT INTO fresh TABLE annotations;"
            f"GRANT SELECT ({columns}) ON fresh TO reader; CREATE SCHEMA IF NOT EXISTS apart;"
            f"ALTER TABLE annotations RENAME TO old{number}; ALTER TABLE old{number} SET SCHEMA apart;"
            "ALTER TABLE fresh RENAME TO annotations; COMMIT"
        )

    after_the_snapshot(replace)
    assert await annotations_of(reader_url) == before


async def test_a_partition_truncated_after_the_snapshot(
    reader_url: str,
    application: PostgresConnection,
    after_the_snapshot: Callable[[Callable[[], object]], None],
) -> None:
    """The same of a partition, behind a view."""
    application.script(
        "ALTER TABLE annotations RENAME TO old; CREATE TABLE parts (LIKE old) PARTITION BY HASH (id);"
        "CREATE TABLE part PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
        "INSERT INTO parts TABLE old; DROP TABLE old; CREATE VIEW annotations AS TABLE parts"
    )
    grant(application)
    before = await annotations_of(reader_url)
    assert before
    after_the_snapshot(lambda: application.script(REPLACE.format(table="part")))
    assert await annotations_of(reader_url) == before


async def test_refreshed_after_the_snapshot(
    url: str, application: PostgresConnection, after_the_snapshot: Callable[[Callable[[], object]], None]
) -> None:
    """`LOCK TABLE` refuses a materialized view; after a REFRESH, older snapshots see its new rows as well."""
    application.script(
        "ALTER TABLE annotations RENAME TO old; CREATE MATERIALIZED VIEW annotations AS "
        "SELECT * FROM old WHERE image_id IN (SELECT id FROM images)"
    )
    ((before,),) = application.execute("SELECT count(*) FROM images")
    after_the_snapshot(
        lambda: application.script(
            "BEGIN; DELETE FROM images WHERE id = (SELECT min(id) FROM images);"
            "REFRESH MATERIALIZED VIEW annotations; COMMIT"
        )
    )
    async with source_of(url).snapshot() as snapshot:
        totals = await SnapshotReader(snapshot, map_catalog(snapshot.catalog)).totals()
    assert totals.live["images"] == before - 2


async def test_rewritten_tables_do_not_wait_for_ever(
    reader_url: str, application: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that holds a table which cannot be locked is waited for, but not without end."""
    grant(application)
    monkeypatch.setattr(source, "LOCK_TIMEOUT_S", 0.5)
    application.script("BEGIN; LOCK TABLE annotations IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(Exception, match="locked"):
        await annotations_of(reader_url)
    application.script("COMMIT")
    assert await annotations_of(reader_url)
