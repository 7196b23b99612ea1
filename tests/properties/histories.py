"""Plays an application: its transactions, its choice of rows, and the list of its operations."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import asyncpg

from tests.applications import Cell
from tests.databases import Connection, SqliteConnection
from tests.properties.schemas import Variant

Operation = Callable[["History", int, int], None]
Step = tuple[str, int, int]
"""The name of an operation and two numbers, from which it takes all its choices."""

REFUSED = (
    sqlite3.IntegrityError,
    sqlite3.OperationalError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.LockNotAvailableError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedObjectError,
)
"""The errors by which a database refuses an operation, because a key is taken or a lock is held."""

OPERATIONS: dict[str, Operation] = {}
"""Operations on any database, each one a transaction or part of one."""

SQLITE_ALONE: dict[str, Operation] = {}
"""Operations of SQLite that no transaction may contain."""

POSTGRES_ONLY: dict[str, Operation] = {}
"""Operations of PostgreSQL, each one a transaction or part of one."""

POSTGRES_ALONE: dict[str, Operation] = {}
"""Operations of PostgreSQL that no transaction may contain."""

ORDINARY: set[str] = set()
"""Operations that touch few rows and no declaration: they are no reason to read everything."""

IMAGES, PROJECTS, ANNOTATIONS = 240, 6, 2000
"""The numbers of keys: few enough that keys are taken, freed and taken again."""


def _into(table: dict[str, Operation], *, ordinary: bool = False) -> Callable[[Operation], Operation]:
    def add(operation: Operation) -> Operation:
        table[operation.__name__] = operation
        if ordinary:
            ORDINARY.add(operation.__name__)
        return operation

    return add


on_a_row = _into(OPERATIONS, ordinary=True)
on_many = _into(OPERATIONS)
sqlite_alone = _into(SQLITE_ALONE)
postgres_only = _into(POSTGRES_ONLY)
postgres_alone = _into(POSTGRES_ALONE)


class History:
    """An application at work in one session of a database; `counter` gives values that no row has yet."""

    def __init__(self, db: Connection, variant: Variant, counter: Iterator[int] | None = None) -> None:
        self.db = db
        self.sqlite = isinstance(db, SqliteConnection)
        self.variant = variant
        self.counter = counter or count(1)
        self.in_transaction = False

    # --- transactions ------------------------------------------------------------------------------

    def play(self, name: str, a: int, b: int) -> bool:
        """Play an operation as a transaction, or as a savepoint of the open one. Returns whether it succeeded."""
        alone = {**SQLITE_ALONE, **POSTGRES_ALONE}.get(name)
        if alone is not None:
            if self.in_transaction:
                return False
            try:
                alone(self, a, b)
            except REFUSED:
                return False
            return True
        begin, commit, back = ("BEGIN", "COMMIT", "ROLLBACK")
        if self.in_transaction:
            begin, commit, back = ("SAVEPOINT one", "RELEASE SAVEPOINT one", "ROLLBACK TO SAVEPOINT one")
        self.db.execute(begin)
        try:
            {**OPERATIONS, **POSTGRES_ONLY}[name](self, a, b)
            self.db.execute(commit)
        except REFUSED:
            self.db.execute(back)
            return False
        return True

    @contextmanager
    def transaction(self, end: str) -> Iterator[None]:
        """Several operations in one transaction that ends with `end`: COMMIT or ROLLBACK."""
        self.db.execute("BEGIN")
        self.in_transaction = True
        try:
            yield
        finally:
            self.in_transaction = False
            self.db.execute(end)

    # --- choices -----------------------------------------------------------------------------------

    def some(self, table: str, a: int) -> Cell:
        """The key of some row of a table; an unused key if the table is empty."""
        (rows,) = self.db.execute(f"SELECT count(*) FROM {table}")[0]
        if not rows:
            return self.key(table, a)
        found = self.db.execute(f"SELECT id FROM {table} ORDER BY id LIMIT 1 OFFSET ?", a % rows)
        key: Cell = found[0][0]
        return key

    def key(self, table: str, number: int) -> Cell:
        """One of the few possible keys of a table, taken or not."""
        if table in ("projects", "labels"):
            return 1 + number % (PROJECTS if table == "projects" else self.variant.labels)
        return self.variant.key(
            number % {"datasets": self.variant.datasets, "images": IMAGES}.get(table, ANNOTATIONS)
        )

    @property
    def tiny(self) -> bool:
        """Whether datasets are as many as images, and labels as many as annotations."""
        return self.variant.datasets >= IMAGES

    def label(self, number: int) -> str:
        """The name of a label."""
        return f"transcription {number % self.variant.labels}" if self.tiny else ("car", "花", "=x")[number % 3]

    def link(self, parent: str, number: int) -> Cell:
        """The reference to a parent, which may not exist: its key, or its code where links go by codes."""
        if self.has(parent, "code"):
            return f"{parent[0]}{self.key(parent, number)}"
        return self.key(parent, number)

    def link_to_some(self, parent: str, number: int) -> Cell:
        """The reference to some parent that exists."""
        key = self.some(parent, number)
        if not self.has(parent, "code"):
            return key
        found = self.db.execute(f"SELECT code FROM {parent} WHERE id = ?", key)
        return found[0][0] if found else None

    def has(self, table: str, column: str) -> bool:
        """Whether a table has a column."""
        return column in self.variant.columns[table]

    def word(self, a: int) -> str:
        """A text that no value had before, sometimes one that a spreadsheet would take for a formula."""
        return ("=", "", "", "ö", "-", "花 ")[a % 6] + str(next(self.counter))

    def polygon(self, a: int, b: int) -> Any:
        """A polygon as text, in SQLite sometimes as bytes.

        It is often short, and sometimes long enough for overflow pages.
        """
        points = (0, 3, 3, 3, 40, 400, 2500)[a % 7]
        if not points:
            return ("null", None)[b % 2]
        text = json.dumps([[b + place, 0.5 * next(self.counter)] for place in range(points)])
        return text.encode() if self.sqlite and b % 5 == 0 else text

    # --- declarations ------------------------------------------------------------------------------

    def create_like(self, table: str, name: str) -> None:
        """An empty table with the declaration of another one."""
        if self.sqlite:
            (sql,) = self.db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", table)[0]
            self.db.execute(re.sub(r'^CREATE TABLE\s+("?)\w+\1', f"CREATE TABLE {name}", sql))
        else:
            self.db.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")

    def columns_now(self, table: str) -> list[str]:
        """The columns of a table; none if there is no such table."""
        query = "SELECT name FROM pragma_table_info(?)"
        if not self.sqlite:
            query = "SELECT column_name FROM information_schema.columns WHERE table_name = ?"
        return [name for (name,) in self.db.execute(query, table)]

    # --- rows --------------------------------------------------------------------------------------

    def insert(self, table: str, **values: Cell) -> None:
        """Insert a row with those of the values that the table has columns for."""
        if self.has(table, "code") and "code" not in values:
            values["code"] = f"{table[0]}{values['id']}"
        self.check_free(table, values["id"])
        known = {name: value for name, value in values.items() if self.has(table, name)}
        names, marks = ", ".join(known), ", ".join("?" * len(known))
        self.db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", *known.values())

    def check_free(self, table: str, key: Cell) -> None:
        """Check that a key is free, as the application does where no primary key enforces it.

        Raises `sqlite3.IntegrityError`.
        """
        if not self.variant.enforced and self.db.execute(f"SELECT 1 FROM {table} WHERE id = ?", key):
            raise sqlite3.IntegrityError(f"{table} has a row {key}")

    def update(self, table: str, where: Cell, **values: Cell) -> None:
        """Change the row of a key."""
        known = {name: value for name, value in values.items() if self.has(table, name)}
        if "id" in known and known["id"] != where:
            self.check_free(table, known["id"])
        if known:
            settings = ", ".join(f"{name} = ?" for name in known)
            self.db.execute(f"UPDATE {table} SET {settings} WHERE id = ?", *known.values(), where)

    def add_image(self, number: int, dataset: Cell, a: int) -> None:
        """Insert an image."""
        self.insert(
            "images", id=self.key("images", number), dataset_id=dataset, filename=self.word(a),
            original_filename="o.jpg", file_path=f"p/{number % 97}.jpg", is_labeled=a % 2,
            width=640, height=480 if a % 9 else None, original_width="640", original_height=480,
            split_section=("train", "val", "training", None, "odd")[a % 5],
        )  # fmt: skip

    def add_annotation(self, number: int, image: Cell, a: int) -> None:
        """Insert an annotation."""
        self.insert(
            "annotations", id=self.key("annotations", number), image_id=image, class_id=1 + a % 20,
            class_name=self.label(a), confidence=(0.5, None, a / 7)[a % 3],
            x_min=1.0, y_min=2.0, x_max=float(a), y_max=4.0, segmentation=self.polygon(a // 3, a),
        )  # fmt: skip

    def populate(self, images: int) -> None:
        """Insert some rows to begin with, in one transaction."""
        with self.transaction("COMMIT"):
            for number in range(2):
                self.insert("projects", id=1 + number, name=self.word(1))
            datasets = max(4, images) if self.tiny else 4
            for number in range(datasets):
                project = self.link("projects", number % 2)
                self.insert("datasets", id=self.key("datasets", number), project_id=project, name=self.word(1))
            for number in range(40 if self.tiny else 5):
                project = self.link("projects", number % 2)
                self.insert("labels", id=1 + number, name=self.label(number), color="#fff", project_id=project)
            for number in range(images):
                self.add_image(number, self.link("datasets", number * datasets // max(images, 1)), number)
                for place in range(number % 4):
                    self.add_annotation(number * 4 + place, self.link("images", number), number + place)
