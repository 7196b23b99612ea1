"""After any history of a SQLite database, every new or changed row is in the reported ranges."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from xxhash import xxh3_128_digest

from autoexport.model.blocks import Everything
from autoexport.sources.sqlite.fingerprint import Fingerprint, TableRoot, changed_ranges, compare, fingerprint
from autoexport.sources.sqlite.page_scan import PageNotes

MAPPED = ("a", "b")
TABLE = st.sampled_from(MAPPED)
ROWID = st.one_of(
    st.integers(1, 400),
    st.integers(-300, 300),
    st.integers(0, 63).map(lambda bits: (1 << bits) - 1),
    st.integers(0, 63).map(lambda bits: -(1 << bits)),
)
LENGTH = st.one_of(st.integers(0, 60), st.floats(0.2, 12))  # characters, or pages
WHERE = st.floats(0, 1)

Rows = dict[str, dict[int, tuple[int, object, object]]]


def create(path: Path, page_size: int, reserved_bytes: int, pragmas: Sequence[str]) -> None:
    """Create an empty database of this layout.

    Only C code can ask SQLite for reserved bytes. They are written into the header (Database File Format, 1.3.4)
    of a database that has only page 1.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in (f"page_size = {page_size}", *pragmas, "user_version = 1"):
            connection.execute(f"PRAGMA {pragma}")
    if reserved_bytes:
        with path.open("r+b") as file:
            file.seek(20)
            file.write(bytes([reserved_bytes]))
            file.seek(100 + 5)  # 1.6: where the cell content area of page 1 begins
            file.write((page_size - reserved_bytes).to_bytes(2, "big"))


class History(RuleBasedStateMachine):
    """An application changes two mapped tables and some others, and is looked at every few steps."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name, "source.db")
        self.before: tuple[list[bytes], Rows] | None = None
        self.ordinary = True
        self.steps = 0
        self.fresh = (f"{number:07}" for number in count())
        self.indexes = count()

    @initialize(
        page_size=st.sampled_from([512, 1024, 4096, 65536]),
        auto_vacuum=st.sampled_from(["NONE", "FULL", "INCREMENTAL"]),
        secure_delete=st.sampled_from(["ON", "OFF", "FAST"]),
        encoding=st.sampled_from(["UTF-8", "UTF-16le", "UTF-16be"]),
        journal=st.sampled_from(["DELETE", "TRUNCATE", "WAL"]),
        reserved_bytes=st.sampled_from([0, 0, 8, 32]),
        look_every=st.sampled_from([1, 2, 3, 7]),
        rows=st.integers(0, 300),
    )
    def begin(
        self,
        page_size: int,
        auto_vacuum: str,
        secure_delete: str,
        encoding: str,
        journal: str,
        reserved_bytes: int,
        look_every: int,
        rows: int,
    ) -> None:
        """Create a database with some rows, and look at it for the first time."""
        create(self.path, page_size, reserved_bytes, (f"auto_vacuum = {auto_vacuum}", f"encoding = '{encoding}'"))
        self.page_size, self.look_every = page_size, look_every
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.executescript(
            f"PRAGMA journal_mode = {journal}; PRAGMA secure_delete = {secure_delete};"
            "PRAGMA synchronous = OFF; CREATE TABLE other (v); CREATE TABLE a (n INTEGER, v TEXT);"
            "CREATE TABLE b (id INTEGER PRIMARY KEY, n, v)"
        )
        self.insert_many("a", rows, 30)
        self.insert_many("b", 3, 4.0)
        self.look()

    def teardown(self) -> None:
        """Close and remove the database."""
        if hasattr(self, "db"):
            self.db.close()
        self.directory.cleanup()

    def characters(self, length: float) -> int:
        """A length in characters; one that is not whole is in pages."""
        return length if isinstance(length, int) else min(int(length * self.page_size), 150_000)

    def text(self, length: float) -> str:
        """A text that no other value of this history has, filled up to a length."""
        return next(self.fresh).ljust(self.characters(length), "x")

    def some_rowid(self, table: str, where: float) -> int | None:
        """The rowid of an existing row at about this place."""
        (rows,) = self.db.execute(f"SELECT count(*) FROM {table}").fetchone()
        found = self.db.execute(
            f"SELECT rowid FROM {table} ORDER BY rowid LIMIT 1 OFFSET ?", (int(where * max(rows - 1, 0)),)
        ).fetchone()
        return None if found is None else int(found[0])

    # --- ordinary changes -------------------------------------------------------------------------

    @rule(table=TABLE, rowid=ROWID, length=LENGTH)
    def insert(self, table: str, rowid: int, length: float) -> None:
        """Insert a row under a chosen rowid, in place of any row there."""
        self.db.execute(
            f"INSERT OR REPLACE INTO {table} (rowid, n, v) VALUES (?, 1, ?)", (rowid, self.text(length))
        )

    @rule(table=TABLE, rows=st.integers(1, 120), length=LENGTH)
    def insert_many(self, table: str, rows: int, length: float) -> None:
        """Insert rows at the end, or at random once the largest rowid is taken."""
        rows = min(rows, 1 + 200_000 // (self.characters(length) + 1))
        self.db.execute("BEGIN")
        self.db.executemany(
            f"INSERT INTO {table} (n, v) VALUES (0, ?)", [(self.text(length),) for _ in range(rows)]
        )
        self.db.execute("COMMIT")

    @rule(table=TABLE, where=WHERE)
    def update_number(self, table: str, where: float) -> None:
        """Change a row and keep its size."""
        self.db.execute(f"UPDATE {table} SET n = 1 - n WHERE rowid = ?", (self.some_rowid(table, where),))

    @rule(table=TABLE, where=WHERE, place=WHERE)
    def update_inside(self, table: str, where: float, place: float) -> None:
        """Change a few characters inside a text: in a long one, only an overflow page changes."""
        rowid = self.some_rowid(table, where)
        found = self.db.execute(f"SELECT v FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        if found and len(found[0]) >= 7:
            at = int(place * (len(found[0]) - 7))
            text = found[0][:at] + next(self.fresh) + found[0][at + 7 :]
            self.db.execute(f"UPDATE {table} SET v = ? WHERE rowid = ?", (text, rowid))

    @rule(table=TABLE, place=WHERE)
    def update_inside_longest(self, table: str, place: float) -> None:
        """Change a few characters in the longest text, as the only change between two looks."""
        self.look()
        found = self.db.execute(f"SELECT rowid, v FROM {table} ORDER BY length(v) DESC LIMIT 1").fetchone()
        if found and len(found[1]) >= 7:
            at = int(place * (len(found[1]) - 7))
            text = found[1][:at] + next(self.fresh) + found[1][at + 7 :]
            self.db.execute(f"UPDATE {table} SET v = ? WHERE rowid = ?", (text, found[0]))
        self.look()

    @rule(table=TABLE, where=WHERE, length=LENGTH)
    def update_length(self, table: str, where: float, length: float) -> None:
        """Make a text longer or shorter."""
        rowid = self.some_rowid(table, where)
        self.db.execute(f"UPDATE {table} SET v = ? WHERE rowid = ?", (self.text(length), rowid))

    @rule(table=TABLE, where=WHERE, rowid=ROWID)
    def move(self, table: str, where: float, rowid: int) -> None:
        """Give a row another rowid."""
        self.db.execute(
            f"UPDATE OR REPLACE {table} SET rowid = ? WHERE rowid = ?", (rowid, self.some_rowid(table, where))
        )

    @rule(table=TABLE, where=WHERE, rows=st.integers(1, 100))
    def delete(self, table: str, where: float, rows: int) -> None:
        """Delete a run of rows."""
        self.db.execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE rowid >= ? LIMIT ?)",
            (self.some_rowid(table, where), rows),
        )

    @rule(table=TABLE)
    def delete_all(self, table: str) -> None:
        """Delete all rows: without WHERE, SQLite frees whole pages and does not touch their bytes."""
        self.db.execute(f"DELETE FROM {table}")

    @rule(table=TABLE, where=WHERE, rows=st.integers(1, 100), same=st.booleans(), backwards=st.booleans())
    def delete_and_reinsert(self, table: str, where: float, rows: int, same: bool, backwards: bool) -> None:
        """Delete rows and insert them again, under the same or new rowids."""
        start = self.some_rowid(table, where)
        query = f"SELECT rowid, n, v FROM {table} WHERE rowid >= ? ORDER BY rowid LIMIT ?"
        found = self.db.execute(query, (start, rows)).fetchall()
        self.db.execute("BEGIN")
        self.db.executemany(f"DELETE FROM {table} WHERE rowid = ?", [row[:1] for row in found])
        back = [row if same else (None, *row[1:]) for row in (reversed(found) if backwards else found)]
        self.db.executemany(f"INSERT INTO {table} (rowid, n, v) VALUES (?, ?, ?)", back)
        self.db.execute("COMMIT")

    @rule(table=TABLE)
    def delete_all_and_reinsert(self, table: str) -> None:
        """Delete all rows, look, and insert them again: pages return from the freelist."""
        found = self.db.execute(f"SELECT rowid, n, v FROM {table}").fetchall()
        self.db.execute(f"DELETE FROM {table}")
        self.look()
        self.db.execute("BEGIN")
        self.db.executemany(f"INSERT INTO {table} (rowid, n, v) VALUES (?, ?, ?)", found)
        self.db.execute("COMMIT")

    @rule(table=TABLE)
    def swap_rows(self, table: str) -> None:
        """Exchange some rows of the mapped tables."""
        other = MAPPED[1 - MAPPED.index(table)]
        self.db.executescript(
            f"BEGIN; INSERT OR REPLACE INTO {other} (rowid, n, v) SELECT rowid, n, v FROM {table} LIMIT 20;"
            f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} LIMIT 20); COMMIT"
        )

    @rule(length=st.integers(0, 20_000), clear=st.booleans())
    def change_other(self, length: int, clear: bool) -> None:
        """Let an unmapped table take pages or free them, with bytes that look like pages."""
        if clear:
            self.db.execute("DELETE FROM other")
        self.db.execute("INSERT INTO other VALUES (?)", (b"\r\0\0\0\1" * (length // 5),))

    @rule(table=TABLE)
    def roll_back(self, table: str) -> None:
        """Roll a transaction back."""
        self.db.executescript(f"BEGIN; UPDATE {table} SET v = v || 'y'; DELETE FROM {table}; ROLLBACK")

    @rule(what=st.sampled_from(["VACUUM", "PRAGMA incremental_vacuum(3)", "PRAGMA wal_checkpoint(TRUNCATE)"]))
    def tidy(self, what: str) -> None:
        """Move pages and change no row. VACUUM may also move the roots of tables, which makes a new schema."""
        self.db.execute(what).fetchall()
        self.ordinary = self.ordinary and what != "VACUUM"

    # --- changes of the schema --------------------------------------------------------------------

    @rule(table=TABLE, drop=st.booleans())
    def change_indexes(self, table: str, drop: bool) -> None:
        """Create an index, or drop one, which leaves its pages."""
        names = [name for (name,) in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'index'")]
        if drop and names:
            self.db.execute(f"DROP INDEX {names[0]}")
        elif not drop:
            self.db.execute(f"CREATE INDEX i{next(self.indexes)} ON {table} (v)")
        self.ordinary = False

    @rule()
    def swap_names(self) -> None:
        """Swap the names of two tables: every row changes and no row is touched."""
        self.db.executescript(
            "BEGIN; ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b; COMMIT"
        )
        self.ordinary = False

    @rule(table=TABLE, rows=st.integers(0, 50))
    def drop_and_create(self, table: str, rows: int) -> None:
        """Drop a table and create it by the same statement, often with the same root page."""
        (sql,) = self.db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        self.db.executescript(f"BEGIN; DROP TABLE {table}; {sql}; COMMIT")
        self.insert_many(table, rows, 40)
        self.ordinary = False

    # --- looking ----------------------------------------------------------------------------------

    def look(self) -> None:
        """Fingerprint a copy, compare it with the last one, and check the answer by plain SQL."""
        notes = PageNotes(Path(self.directory.name))
        with self.private_copy() as (fd, connection), closing(notes):
            digest, roots = self.schema(connection)
            new = fingerprint(fd, roots, digest, notes)
            rows = {
                table: {row[0]: row for row in connection.execute(f"SELECT rowid, n, v FROM {table}")}
                for table in MAPPED
            }
            assert new.row_counts == {table: len(rows[table]) for table in MAPPED}
            if self.before is not None:
                self.check(fd, connection, new, rows)
            self.before = list(new.pieces()), rows
        self.ordinary = True

    def check(self, fd: int, connection: sqlite3.Connection, new: Fingerprint, rows: Rows) -> None:
        """Check that every new or changed row is in a range, and that reported identity is true."""
        assert self.before is not None
        pieces, rows_before = self.before
        difference = compare(iter(pieces), new)
        answer = changed_ranges(connection, fd, new, difference)
        if isinstance(answer, Everything):
            assert not self.ordinary, f"nothing unusual happened, yet: {answer.reason}"
            return
        for table in MAPPED:
            ranges = list(answer[table])
            changed = {row for row in rows[table].values() if rows_before[table].get(row[0]) != row}
            missed = [row[0] for row in changed if not any(low <= row[0] <= high for low, high in ranges)]
            assert not missed, f"rows of {table} that nothing points to: {missed}"
            if changed and not difference.dirty_leaves[table]:
                event("found through an overflow page alone")
        assert not difference.identical or rows == rows_before

    @contextmanager
    def private_copy(self) -> Iterator[tuple[int, sqlite3.Connection]]:
        """A copy by the backup API in one step, open in both ways."""
        copy = Path(self.directory.name, "copy.db")
        url = f"file:{self.path}?mode=ro"
        with closing(sqlite3.connect(url, uri=True)) as reader, closing(sqlite3.connect(copy)) as target:
            target.execute("PRAGMA synchronous = OFF")
            reader.backup(target)
        fd = os.open(copy, os.O_RDONLY)
        try:
            with closing(sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)) as connection:
                yield fd, connection
        finally:
            os.close(fd)
            copy.unlink()

    def schema(self, connection: sqlite3.Connection) -> tuple[bytes, list[TableRoot]]:
        """The digest of the schema and the roots of the mapped tables."""
        rows = connection.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master").fetchall()
        roots = [TableRoot(name, root) for _, name, _, root, _ in rows if name in MAPPED]
        return xxh3_128_digest(repr(sorted(rows, key=repr)).encode()), sorted(roots, key=lambda it: it.name)

    @invariant()
    def look_now_and_then(self) -> None:
        """Look every few steps, and let SQLite check the database."""
        if hasattr(self, "db"):
            self.steps += 1
            if self.steps % self.look_every == 0:
                self.look()
                assert self.db.execute("PRAGMA quick_check").fetchall() == [("ok",)]


TestHistory = pytest.mark.timeout(600)(History.TestCase)  # making a failure smaller takes minutes


@pytest.mark.soak
@pytest.mark.timeout(3600)
class TestLongHistories(History.TestCase):  # type: ignore[misc, valid-type]
    """The same holds for longer histories."""

    settings = settings.get_profile("soak")
