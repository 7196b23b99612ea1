"""Any history of a database: what an incremental export publishes is what a full export would write."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from autoexport import changes, plan, snapshot
from tests.databases import Database, PostgresDatabase, SqliteDatabase
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
from tests.properties.schemas import APPLICATION, INTEGERS, VARIANTS, Variant

assert operations.__doc__
assert migrations.__doc__
NUMBER = st.integers(0, 4000)


def steps(*tables: dict[str, Any]) -> st.SearchStrategy[Step]:
    """A step of a history: an operation of these tables and its two numbers."""
    return st.tuples(st.sampled_from(sorted(name for table in tables for name in table)), NUMBER, NUMBER)


ORDINARY_STEP = steps(dict.fromkeys(ORDINARY))
STEP = st.one_of(ORDINARY_STEP, steps(OPERATIONS))
FEW_BLOCKS = re.compile(r"\d+ of \d+ blocks changed|it was asked for|there is no ledger|most pages changed")
"""The reasons for a full export after changes of a few rows."""


class Incremental(RuleBasedStateMachine):
    """An application, a second session of it, and an exporter that is started anew for each export."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.counter = count(1)
        self.ordinary = True
        self.exports = 0
        self.database: Database
        self.own: History

    def begin(self, database: Database, variant: Variant, images: int, most_dirty: float, **chosen: object) -> None:
        """Populate the database and export it for the first time; `most_dirty` and small blocks make the
        choice between incremental and full as interesting as in databases that are a thousand times larger."""
        for module, name, value in (
            (snapshot, "BLOCK_IMAGES", 4),
            (snapshot, "BLOCK_BYTES", 20_000),
            (snapshot, "RANGES_AT_ONCE", 3),
            (plan, "SMALL_IMAGES", 2),
            (plan, "MOST_DIRTY", most_dirty),
            (changes, "_KEYS_AT_ONCE", 5),
            (os, "fsync", without_waiting_for_the_disk),
        ):
            self.patch.setattr(module, name, value)
        self.database, self.variant = database, variant
        self.own = History(database.own, variant, self.counter)
        self.other = History(database.connect(), variant, self.counter)
        self.own.populate(images)
        self.exporting = Exporting(database.url, Path(self.directory.name), **chosen)
        self.export(during=[])

    def teardown(self) -> None:
        """Close and remove the database."""
        if hasattr(self, "exporting"):
            if self.other.in_transaction:
                self.other.db.execute("ROLLBACK")
            try:
                self.export(during=[])
            finally:
                self.other.db.close()
                self.database.close()
        self.patch.undo()
        self.directory.cleanup()

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
        """Export, while others commit."""
        done = self.exported(during)
        event(f"{done.manifest['mode']}: {re.sub('[0-9]+', 'n', done.outcome.reason)}")
        if self.ordinary and self.exports > 1:
            assert FEW_BLOCKS.match(done.outcome.reason) or done.outcome.manifest.mode == "incremental", (
                f"only a few rows changed, yet: {done.outcome.reason}"
            )
        self.ordinary = True
        for step in during:
            self.note(step)

    @rule()
    def export_twice(self) -> None:
        """Export, and once more: the second finds nothing to do."""
        self.exported([])
        before = self.exporting.states()
        assert not self.exported([]).outcome.published
        assert self.exporting.states() == before
        self.ordinary = True

    @rule(a=NUMBER, b=NUMBER)
    def export_nothing(self, a: int, b: int) -> None:
        """Changes of what is not exported publish nothing."""
        self.exported([])
        self.own.play("work_elsewhere", a, b)
        self.own.play("touch_nothing", a, b)
        assert not self.exported([]).outcome.published
        self.ordinary = True

    @rule()
    def export_fully(self) -> None:
        """A full export, which makes the ledger for the next incremental one."""
        asyncio.run(self.exporting.export(full=True))
        self.exports += 1
        self.ordinary = True

    # --- how ---------------------------------------------------------------------------------------

    def note(self, step: Step) -> None:
        """Remember whether what happened since the last export gives a reason to read everything."""
        self.ordinary = self.ordinary and step[0] in ORDINARY

    def exported(self, during: list[Step]) -> Compared:
        """Export in an event loop of its own; `during` is committed by another session after the snapshot."""
        self.exports += 1

        def meanwhile() -> None:
            if not self.other.in_transaction:
                for step in during:
                    self.other.play(*step)

        return asyncio.run(self.exporting.export(meanwhile))


class SqliteHistory(Incremental):
    """The application uses SQLite."""

    journals: ClassVar[list[str]] = ["DELETE", "TRUNCATE", "PERSIST", "WAL"]

    @initialize(data=st.data())
    def begin_with_sqlite(self, data: st.DataObject) -> None:
        """A database of some layout."""
        draw = data.draw
        variant = draw(st.sampled_from(VARIANTS))
        path = Path(self.directory.name, "application.sqlite3")
        database = SqliteDatabase(path)
        pragmas = {
            "page_size": draw(st.sampled_from([512, 1024, 4096, 4096, 65536])),
            "encoding": draw(st.sampled_from(["'UTF-8'", "'UTF-8'", "'UTF-16le'", "'UTF-16be'"])),
            "auto_vacuum": draw(st.sampled_from(["NONE", "FULL", "INCREMENTAL"])),
            "journal_mode": draw(st.sampled_from(self.journals)),
            "secure_delete": draw(st.sampled_from(["ON", "OFF", "FAST"])),
            "synchronous": "OFF",
            "foreign_keys": "OFF",
            # A table that is renamed does not take along the declarations that refer to it.
            "legacy_alter_table": "ON",
        }
        for name, value in pragmas.items():
            database.execute(f"PRAGMA {name} = {value}")
        database.script(variant.sql)
        self.begin(
            database, variant, draw(st.integers(0, 60)), draw(st.sampled_from([0.5, 1.0])),
            json_style=draw(st.sampled_from(["records", "pretty"])),
        )  # fmt: skip
        for pragma in ("synchronous = OFF", "legacy_alter_table = ON"):
            self.other.db.execute(f"PRAGMA {pragma}")

    @rule(step=steps(SQLITE_ALONE))
    def look_after(self, step: Step) -> None:
        """Upkeep."""
        self.note(step)
        self.own.play(*step)


class PostgresHistory(Incremental):
    """The application uses PostgreSQL."""

    urls: ClassVar[Iterator[str]]
    """Where each history takes its new database from."""

    @initialize(data=st.data())
    def begin_with_postgres(self, data: st.DataObject) -> None:
        """A new database."""
        variant = data.draw(st.sampled_from([APPLICATION, INTEGERS]))
        database = PostgresDatabase(new_postgres_database(self, variant))
        self.begin(database, variant, data.draw(st.integers(0, 60)), data.draw(st.sampled_from([0.5, 1.0])))


def new_postgres_database(machine: PostgresHistory, variant: Variant) -> str:
    """A new database with the tables of a variant."""
    raise NotImplementedError
