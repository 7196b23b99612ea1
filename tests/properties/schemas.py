"""The schemas that histories are played on: the application's tables, and variants with other keys and links."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from tests.applications import SCHEMA, Cell, key

_ODD_KEYS = (
    "", "a", "A", "B", "b", "é", "\uffff", "\U0001f600", "1", "01", "1.0", "%", "_", "'", '"', "\\", " a", "a\x7f",
)  # fmt: skip
"""Text keys that collations, quoting, number conversion and UTF-16 code units put in other places."""


def _text_key(number: int) -> Cell:
    place, rest = divmod(number, 4)
    return _ODD_KEYS[place] if not rest and place < len(_ODD_KEYS) else key(number)


def _number_key(number: int) -> Cell:
    return number - 3 if number % 7 else (number + 1) * 10**15


def _bytes_key(number: int) -> Cell:
    return (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") + bytes([number % 3]) * (number % 5)


@dataclass(frozen=True)
class Variant:
    """Tables by their SQL, and the keys of their datasets, images and annotations by number.

    `enforced`: the keys are primary keys, so that two rows of one key are refused. `datasets` and `labels` are the
    numbers of their keys. If `labels` are many, annotations are labelled by free text.
    """

    name: str
    sql: str
    key: Callable[[int], Cell]
    enforced: bool = True
    datasets: int = 12
    labels: int = 20

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The columns of each table."""
        return _columns(self.sql)


@cache
def _columns(sql: str) -> dict[str, tuple[str, ...]]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(sql)
        found = connection.execute(
            "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
        ).fetchall()
    finally:
        connection.close()
    return {table: tuple(c for owner, c in found if owner == table) for table, _ in found}


_INTEGERS = re.sub(r"\b(id|dataset_id|image_id) VARCHAR NOT NULL", r"\1 INTEGER NOT NULL", SCHEMA)

_BYTES = re.sub(r"\b(id|dataset_id|image_id) VARCHAR NOT NULL", r"\1 BLOB NOT NULL", SCHEMA)

_CODES = """
CREATE TABLE projects (id INTEGER PRIMARY KEY, code VARCHAR UNIQUE, name TEXT NOT NULL, description TEXT,
    deleted_at DATETIME);
CREATE TABLE datasets (id INTEGER PRIMARY KEY, code VARCHAR UNIQUE, name TEXT NOT NULL, description TEXT,
    project_id VARCHAR REFERENCES projects (code), deleted_at DATETIME);
CREATE TABLE images (id INTEGER PRIMARY KEY, code VARCHAR UNIQUE, filename TEXT, file_path TEXT,
    dataset_id VARCHAR REFERENCES datasets (code), split_section TEXT, is_deleted BOOLEAN, reviewed TEXT,
    original_width VARCHAR(20), original_height INTEGER);
CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id VARCHAR REFERENCES images (code),
    class_id INTEGER REFERENCES labels (id), confidence FLOAT, x_min FLOAT, y_min FLOAT, x_max FLOAT, y_max FLOAT,
    segmentation JSON, deleted_at DATETIME, deleted TEXT);
CREATE TABLE labels (id INTEGER PRIMARY KEY, name VARCHAR(100), color VARCHAR(20),
    project_id VARCHAR REFERENCES projects (code), deleted_at DATETIME);
CREATE TABLE dev_mode_settings (id INTEGER PRIMARY KEY, password_hash TEXT);
"""

_LOOSE = """
CREATE TABLE projects (id, name TEXT, description TEXT);
CREATE TABLE datasets (id TEXT COLLATE NOCASE, name TEXT, description TEXT, project_id INTEGER);
CREATE TABLE images (id, filename TEXT, file_path TEXT, dataset_id TEXT, is_labeled, split_section, deleted_at,
    width, height);
CREATE TABLE annotations (id TEXT, image_id TEXT COLLATE NOCASE, class_name TEXT, confidence, x_min, y_min,
    x_max, y_max, segmentation);
CREATE TABLE labels (id INTEGER, name TEXT, color TEXT, project_id);
CREATE TABLE dev_mode_settings (id INTEGER PRIMARY KEY, password_hash TEXT);
"""

APPLICATION = Variant("application", SCHEMA, _text_key)
INTEGERS = Variant("integers", _INTEGERS, _number_key)
CODES = Variant("codes", _CODES, _number_key)
"""Links by another column than the key, labels by number, soft deletion, numbers and flags as text."""
LOOSE = Variant("loose", _LOOSE, _text_key, enforced=False)
"""No primary keys, no declared types, collations that differ between the two ends of a link."""

BYTES = Variant("bytes", _BYTES, _bytes_key)
"""Keys that are UUIDs of 16 bytes, or other bytes."""

TINY = Variant("tiny", SCHEMA, _text_key, datasets=240, labels=400)
"""As many datasets as images, and free text as labels."""

VARIANTS = (APPLICATION, INTEGERS, CODES, LOOSE, BYTES, TINY)
