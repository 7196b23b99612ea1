"""After any history of a database, an incremental export publishes what a full export would write."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sqlite3
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from autoexport.formats import json_tree, row_groups
from autoexport.incremental import changes, plan
from autoexport.model import scratch, tree
from autoexport.pipeline import ranges, sections
from autoexport.publishing import label_files, layout, splice
from autoexport.rendering import label_counts, label_rows, outline, spool
from autoexport.sources import block_size, reader, stretches
from autoexport.sources.sqlite import private_copy
from tests.applications import postgres_schema
from tests.databases import Database, PostgresDatabase, SqliteDatabase
from tests.outputs import ALL_OUTPUTS, DEFAULT_OUTPUTS
from tests.postgres import PostgresServer
from tests.properties import migrations, operations
from tests.properties.comparison import Compared, Exporting, without_waiting_for_the_disk
from tests.properties.histories import (
    OPERATIONS,
    ORDINARY,
    POSTGRES_ALONE,
    POSTGRES_ONLY,
    SQLITE_ALONE,
    History,
    Step,
)
from tests.properties.schemas import APPLICATION, BYTES, INTEGERS, TINY, VARIANTS, Variant

assert operations.__doc__
assert migrations.__doc__
NUMBER = st.one_of(st.integers(0, 60), st.integers(0, 4000))
JOURNALS = ("DELETE", "TRUNCATE", "PERSIST", "WAL")
SESSION = {
    "synchronous": "OFF",
    # A table that is renamed does not take along the declarations that refer to it.
    "legacy_alter_table": "ON",
}


SMALL: tuple[tuple[ModuleType, str, Any], ...] = (
    (block_size, "BLOCK_IMAGES", 4),
    (block_size, "BLOCK_BYTES", 20_000),
    (block_size, "PIECE_BYTES", 1_000),
    (block_size, "DOUBLING", 10),
    (reader, "RANGES_AT_ONCE", 3),
    (reader, "READ_IN_HALVES", range(1, 10**9)),
    (ranges, "RANGES_FROM_ROWS", 0),
    (stretches, "SAMPLED_IMAGES", 10),
    (stretches, "_LEAST_SAMPLE", 3),
    (plan, "SMALL_IMAGES", 2),
    (changes, "_KEYS_AT_ONCE", 5),
    (changes, "_DATASETS_AT_ONCE", 2),
    (block_size, "TOGETHER_IMAGES", 6),
    (outline, "LARGE_DATASETS", 2),
    (outline, "SECTION_NODES", 3),
    (label_counts, "MOST_HELD", 3),
    (label_counts, "_TOGETHER", 2),
    (sections, "_UNPACKED_BLOCKS", 2),
    (json_tree, "_LABELS_TOGETHER", 2),
    (label_rows, "LABELS_TOGETHER", 2),
    (tree, "_PACKED_TOGETHER", 2),
    (scratch, "_PIECE_BYTES", 50),
    (layout, "_TEXT_BYTES", 200),
    (splice, "SMALL_BYTES", 500),
    (splice, "_JOINED_BYTES", 2_000),
    (spool, "_HELD_BYTES", 3_000),
    (row_groups, "SPACING_ROWS", 4),
    (row_groups, "LEAST_ROWS", 3),
    (row_groups, "MOST_ROWS", 9),
    (row_groups, "LARGE_BYTES", 2_000),
    (label_files, "sync", lambda directory: None),
    (os, "fsync", without_waiting_for_the_disk),
)
"""Limits under which a small database has as many blocks as a large one."""


ARRAYS = r"""
ALTER TABLE annotations ADD outline double precision[];
CREATE FUNCTION outlined() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  NEW.outline := regexp_replace(translate(to_jsonb(NEW) ->> 'segmentation', '[]', '{}'), '\{7,', '{NaN,');
  RETURN NEW;
END $$;
CREATE TRIGGER outlined BEFORE INSERT OR UPDATE ON annotations FOR EACH ROW EXECUTE FUNCTION outlined();
ALTER TABLE annotations ENABLE ALWAYS TRIGGER outlined;
"""
"""A column of arrays that follows the polygons, with a number in some of them that JSON lacks."""


def steps(*tables: dict[str, Any]) -> st.SearchStrategy[Step]:
    """A step of a history: an operation of these tables and its two numbers."""
    return st.tuples(st.sampled_from(sorted(name for table in tables for name in table)), NUMBER, NUMBER)


ORDINARY_STEP = steps(dict.fromkeys(ORDINARY))
STEP = st.one_of(ORDINARY_STEP, steps(OPERATIONS))
FEW_ROWS = re.compile(
    r"\d+ images? may have changed|\d+ of \d+ blocks changed|most pages changed|it was asked for"
    r"|there is no ledger|the integer ids changed"
)
"""The reasons that exports may give after changes of a few rows."""

SPARE_IGNORED = {"annotations": {"ignore": ["spare_annotations"]}}
"""An operation makes a second table of annotations. Without this setting an export would be refused then."""


ALONE = [dict.fromkeys(ALL_OUTPUTS, False) | {name: True} for name in ALL_OUTPUTS]
# Range workers do not know the limits of `SMALL`, on which the cuts of a Parquet file depend.
OUTPUTS = st.sampled_from(
    [
        *({}, {}, DEFAULT_OUTPUTS, *ALONE),
        *({"workers": number, "export_parquet": False} for number in (2, 3)),
        *({"workers": 2} | outputs for outputs in ALONE if not outputs["export_parquet"]),
    ]
)
"""All outputs, the usual ones, or one alone: only if all render sections are unchanged sections kept."""


class Incremental(RuleBasedStateMachine):
    """An application, a second session of it, and a new exporter for each export."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.counter = count(1)
        self.ordinary = True
        self.exports = 0
        self.database: Database
        self.own: History

    def begin(
        self, database: Database, variant: Variant, images: int, most_dirty: float, **chosen: object
    ) -> None:
        """Populate the database and export it for the first time; `most_dirty` is the share of dirty blocks
        above which all are rendered."""
        for module, name, value in (*SMALL, (plan, "MOST_DIRTY", most_dirty)):
            self.patch.setattr(module, name, value)
        self.database, self.variant = database, variant
        self.own = History(database.own, variant, self.counter)
        self.other = History(database.connect(), variant, self.counter)
        self.own.populate(images)
        settings: dict[str, object] = {"tables": SPARE_IGNORED} | chosen
        self.exporting = Exporting(database.url, Path(self.directory.name), **settings)
        self.export(during=[])

    def teardown(self) -> None:
        """Close and remove the database."""
        try:
            if hasattr(self, "exporting"):
                self.export_last()
        finally:
            self.patch.undo()
            self.directory.cleanup()

    def export_last(self) -> None:
        """Export what was not exported, and close the database."""
        try:
            if self.other.in_transaction:
                self.other.db.execute("ROLLBACK")
            self.export(during=[])
        finally:
            self.other.db.close()
            self.database.close()

    # --- what the application does -----------------------------------------------------------------

    @rule(step=ORDINARY_STEP)
    def change_little(self, step: Step) -> None:
        """A row or two change."""
        self.note(step)
        self.own.play(*step)

    @rule(step=STEP)
    def change(self, step: Step) -> None:
        """Anything changes."""
        self.note(step)
        self.own.play(*step)

    @rule(chosen=st.lists(STEP, min_size=1, max_size=5), end=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]))
    def change_in_one_transaction(self, chosen: list[Step], end: str) -> None:
        """Several changes are committed together, or not at all; each is a savepoint."""
        with self.own.transaction(end):
            for step in chosen:
                self.note(step)
                self.own.play(*step)

    # --- the exporter ------------------------------------------------------------------------------

    @rule(during=st.lists(ORDINARY_STEP, max_size=3))
    def export(self, during: list[Step]) -> None:
        """Export while another session commits."""
        done = self.exported(during)
        event(f"{done.manifest['mode']}: {re.sub('[0-9]+', 'n', done.outcome.reason)}")
        if self.ordinary and self.exports > 1:
            assert FEW_ROWS.match(done.outcome.reason), f"only a few rows changed, yet: {done.outcome.reason}"
        self.ordinary = True
        for step in during:
            self.note(step)

    @rule(kind=st.sampled_from(["again", "idle", "full"]), a=NUMBER, b=NUMBER)
    def export_otherwise(self, kind: str, a: int, b: int) -> None:
        """Export again without a change, after unexported changes, or fully.

        A full export writes the ledger for the next incremental export.
        """
        if kind == "full":
            asyncio.run(self.exporting.export(full=True))
            self.exports += 1
        else:
            self.exported([])
            if kind == "idle":
                self.own.play("work_elsewhere", a, b)
                self.own.play("touch_nothing", a, b)
            before = self.exporting.states()
            assert not self.exported([]).outcome.published
            assert self.exporting.states() == before
        self.ordinary = True

    # --- how ---------------------------------------------------------------------------------------

    def note(self, step: Step) -> None:
        """Remember whether every operation since the last export was ordinary."""
        self.ordinary = self.ordinary and step[0] in ORDINARY

    def exported(self, during: list[Step]) -> Compared:
        """Export in an event loop of its own; `during` is committed by another session after the snapshot."""
        self.exports += 1
        # Every other copy of a SQLite file is made by a process of its own, as those of large files are.
        self.patch.setattr(private_copy, "PROCESS_FROM_BYTES", 0 if self.exports % 2 else 1 << 40)

        def meanwhile() -> None:
            if not self.other.in_transaction:
                for step in during:
                    self.other.play(*step)

        return asyncio.run(self.exporting.export(meanwhile))


class SqliteHistory(Incremental):
    """The application uses SQLite, in one of these journal modes."""

    journals: ClassVar[Sequence[str]] = JOURNALS

    @initialize(data=st.data())
    def begin_with_sqlite(self, data: st.DataObject) -> None:
        """Create a database of some layout."""
        draw = data.draw
        variant = draw(st.sampled_from(VARIANTS))
        database = SqliteDatabase(Path(self.directory.name, "application.sqlite3"))
        pragmas = {
            "page_size": draw(st.sampled_from([512, 1024, 4096, 4096, 65536])),
            "encoding": draw(st.sampled_from(["'UTF-8'", "'UTF-8'", "'UTF-16le'", "'UTF-16be'"])),
            "auto_vacuum": draw(st.sampled_from(["NONE", "FULL", "INCREMENTAL"])),
            "journal_mode": draw(st.sampled_from(self.journals)),
            "secure_delete": draw(st.sampled_from(["ON", "OFF", "FAST"])),
            **SESSION,
        }
        for name, value in pragmas.items():
            database.execute(f"PRAGMA {name} = {value}")
        database.script(variant.sql)
        chosen: dict[str, object] = {"json_style": draw(st.sampled_from(["records", "pretty"]))}
        if draw(st.booleans()):
            chosen |= {"include_unlabeled": draw(st.booleans()), "classes": "z, car"}
            chosen |= {"yolo_task": draw(st.sampled_from(["detect", "segment"]))}
        chosen |= draw(OUTPUTS)
        self.begin(database, variant, draw(st.integers(0, 60)), draw(st.sampled_from([0.5, 1.0])), **chosen)
        for name, value in SESSION.items():
            self.other.db.execute(f"PRAGMA {name} = {value}")

    @rule(step=steps(SQLITE_ALONE))
    def look_after(self, step: Step) -> None:
        """Do some upkeep."""
        self.note(step)
        self.own.play(*step)


class PostgresHistory(Incremental):
    """The application uses a PostgreSQL server, and one of its sessions commits late."""

    server: ClassVar[PostgresServer]
    name = ""

    @initialize(data=st.data())
    def begin_with_postgres(self, data: st.DataObject) -> None:
        """Create a new database."""
        variant = data.draw(st.sampled_from([APPLICATION, INTEGERS, BYTES, TINY]))
        self.name = self.server.create_database("template0")
        database = PostgresDatabase(self.server.url(self.name))
        with closing(sqlite3.connect(":memory:")) as tables:
            tables.executescript(variant.sql)
            database.script(";".join(postgres_schema(tables)))
        chosen: dict[str, object] = dict(data.draw(OUTPUTS))
        if data.draw(st.booleans()):
            database.script(ARRAYS)
            chosen["tables"] = {"annotations": {"columns": {"polygon": "outline"}} | SPARE_IGNORED["annotations"]}
        images, most_dirty = data.draw(st.integers(0, 60)), data.draw(st.sampled_from([0.5, 1.0]))
        self.begin(database, variant, images, most_dirty, **chosen)
        self.late = History(database.connect(), variant, self.counter)
        for session in (self.own, self.other, self.late):
            session.db.execute("SET lock_timeout = '50ms'")

    def teardown(self) -> None:
        """Close and remove the database."""
        if hasattr(self, "late"):
            self.late.db.close()
        super().teardown()
        if self.name:
            self.server.drop_database(self.name)

    @rule(step=ORDINARY_STEP)
    def change_late(self, step: Step) -> None:
        """A transaction that stays open makes one more change, after others have begun and committed."""
        if not self.late.in_transaction:
            self.late.db.execute("BEGIN")
            self.late.in_transaction = True
        self.note(step)
        self.late.play(*step)

    @rule(end=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]))
    def commit_late(self, end: str) -> None:
        """The open transaction ends, however many exports have been made since it began."""
        if self.late.in_transaction:
            self.late.in_transaction = False
            self.late.db.execute(end)

    @rule(step=steps(POSTGRES_ALONE, POSTGRES_ONLY))
    def look_after(self, step: Step) -> None:
        """Do some upkeep, or an operation that only PostgreSQL has."""
        self.note(step)
        self.own.play(*step)


def in_journal_mode(journal: str) -> type[SqliteHistory]:
    """Histories in one journal mode."""
    return type("SqliteHistoryInOneMode", (SqliteHistory,), {"journals": (journal,)})


def on_server(server: PostgresServer) -> type[PostgresHistory]:
    """Histories on a server."""
    return type("PostgresHistoryOnServer", (PostgresHistory,), {"server": server})


# --- profiles -------------------------------------------------------------------------------------


def of(examples: int, step_count: int) -> settings:
    """A profile of so many histories with at most so many steps.

    There is no phase `shrink`: making a failure smaller would take longer than the test may.
    """
    return settings(
        settings.get_profile("ci"), max_examples=examples, stateful_step_count=step_count, phases=[Phase.generate]
    )


def test_sqlite_histories() -> None:
    """After any history, in any journal mode, the files are what a full export of the snapshot would write."""
    run_state_machine_as_test(SqliteHistory, settings=of(12, 12))


def test_postgres_histories(postgres_server: PostgresServer) -> None:
    """The same holds on PostgreSQL, with transactions that commit late, TRUNCATE and VACUUM FULL."""
    run_state_machine_as_test(on_server(postgres_server), settings=of(6, 12))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_operation_does_something(variant: Variant, tmp_path: Path) -> None:
    """Every operation succeeds at least once; one with a mistake would always be refused."""
    database = SqliteDatabase(tmp_path / "application.sqlite3")
    for name, value in SESSION.items():
        database.execute(f"PRAGMA {name} = {value}")
    database.script(variant.sql)
    refused = _always_refused(History(database.own, variant), [*OPERATIONS, *SQLITE_ALONE])
    database.close()
    assert not refused


def test_every_operation_does_something_in_postgres(postgres_database: str) -> None:
    """Every operation succeeds at least once on PostgreSQL, too."""
    database = PostgresDatabase(postgres_database)
    names = [*OPERATIONS, *POSTGRES_ALONE, *POSTGRES_ONLY]
    refused = _always_refused(History(database.own, APPLICATION), names)
    database.close()
    assert not refused


def _always_refused(history: History, names: Sequence[str]) -> set[str]:
    history.populate(40)
    tried = (
        (name, 31 * number, 7 * number + time) for time in range(5) for number, name in enumerate(names, time)
    )
    return {*names} - {step[0] for step in tried if history.play(*step)}


@pytest.mark.parametrize("apart", [False, True], ids=["by the backup API", "by a process"])
@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_writer_that_does_not_wait(
    journal: str, apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each export is of a single moment while a second thread commits all the time."""
    monkeypatch.setattr(private_copy, "PROCESS_FROM_BYTES", 0 if apart else 1 << 40)
    for module, name, value in SMALL:
        monkeypatch.setattr(module, name, value)
    database = SqliteDatabase(tmp_path / "application.sqlite3")
    for name, value in {**SESSION, "journal_mode": journal}.items():
        database.execute(f"PRAGMA {name} = {value}")
    database.script(APPLICATION.sql)
    history = History(database.own, APPLICATION)
    history.populate(60)
    exporting = Exporting(database.url, tmp_path)
    names = sorted(ORDINARY)
    generator = random.Random(journal)

    def write() -> int:
        steps = [
            (generator.choice(names), generator.randrange(4000), generator.randrange(4000)) for _ in range(400)
        ]
        return sum(history.play(*step) for step in steps)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            asyncio.run(exporting.export())
    assert writing.result() > 200
    asyncio.run(exporting.export())
    assert not asyncio.run(exporting.export()).outcome.published
    database.close()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("journal", JOURNALS)
def test_long_sqlite_histories(journal: str) -> None:
    """The same holds for at least two thousand steps in each journal mode."""
    run_state_machine_as_test(in_journal_mode(journal), settings=of(52, 40))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_long_postgres_histories(postgres_server: PostgresServer) -> None:
    """The same holds for at least two thousand steps on PostgreSQL."""
    run_state_machine_as_test(on_server(postgres_server), settings=of(52, 40))
