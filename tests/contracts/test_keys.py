"""Keys of every kind: exports are incremental, or `check` says that they are not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import run_autoexport
from tests.postgres_connection import PostgresConnection
from tests.trials import Trial

TABLES = """
CREATE TABLE projects (id {key} PRIMARY KEY, name TEXT);
CREATE TABLE images (id {key} PRIMARY KEY, project_id {key} REFERENCES projects (id), filename TEXT){more};
CREATE TABLE annotations (id {key} PRIMARY KEY, image_id {key} REFERENCES images (id), label TEXT);
"""
IMAGES = 3000


def fill(connection: sqlite3.Connection, *, key: str, keys: list[object], more: str = "") -> None:
    """The tables with keys of a declared type; the first key is that of the project."""
    connection.executescript(TABLES.format(key=key, more=more))
    connection.execute("INSERT INTO projects VALUES (?, 'p')", (keys[0],))
    rows = [(value, keys[0], f"{number}.jpg") for number, value in enumerate(keys)]
    connection.executemany("INSERT INTO images VALUES (?, ?, ?)", rows)
    connection.executemany("INSERT INTO annotations VALUES (?, ?, 'car')", [(value, value) for value in keys])
    connection.commit()


def said_by_check(url: str, cwd: Path) -> str:
    """What `check` prints, on one line."""
    return " ".join(run_autoexport("--database-url", url, "check", cwd=cwd).stdout.split())


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("BLOB", [number.to_bytes(16, "big") for number in range(IMAGES)]),
        ("INTEGER", list(range(IMAGES))),
        ("TEXT COLLATE NOCASE", [f"{number:05}" for number in range(IMAGES)]),
    ],
    ids=["blob", "integer", "nocase"],
)
def test_incremental(tmp_path: Path, key: str, keys: list[object]) -> None:
    """One changed, one new and one deleted image are found by their keys, and `check` has nothing to say."""
    path, url = tmp_path / "app.db", f"sqlite:///{tmp_path}/app.db"
    with closing(sqlite3.connect(path)) as connection:
        fill(connection, key=key, keys=keys[:-1])
        trial = Trial(url, tmp_path / "exports")
        trial.export()
        connection.execute("UPDATE images SET filename = 'changed.jpg' WHERE id = ?", (keys[7],))
        connection.execute("INSERT INTO images VALUES (?, ?, 'new.jpg')", (keys[-1], keys[0]))
        connection.execute("DELETE FROM annotations WHERE image_id = ?", (keys[300],))
        connection.commit()
    outcome = trial.export()
    assert outcome.manifest.mode == "incremental", outcome.reason
    assert trial.differences() == []
    assert "full one" not in said_by_check(url, tmp_path)


@pytest.mark.parametrize(
    ("key", "keys", "more", "reason"),
    [
        ("", [1, 2, "x"], "", "the keys are of several types in images.id"),
        ("", [1, b"\x01"], "", "the keys are of several types in images.id"),
        ("NUMERIC", [1.5, 2.5], "", "the keys are no whole numbers, texts or bytes in images.id"),
        ("TEXT", ["a", "b"], " WITHOUT ROWID", "images is a WITHOUT ROWID table"),
    ],
    ids=["number and text", "number and bytes", "fractions", "without rowid"],
)
def test_always_full(tmp_path: Path, key: str, keys: list[object], more: str, reason: str) -> None:
    """`check` gives the reason, and proposes no index for incremental exports; these are full, indeed."""
    path, url = tmp_path / "app.db", f"sqlite:///{tmp_path}/app.db"
    with closing(sqlite3.connect(path)) as connection:
        fill(connection, key=key, keys=keys, more=more)
        said = said_by_check(url, tmp_path)
        assert f"Every export is a full one: {reason}." in said
        assert "CREATE INDEX" not in said
        trial = Trial(url, tmp_path / "exports")
        trial.export()
        connection.execute("UPDATE images SET filename = 'changed.jpg' WHERE id = ?", (keys[1],))
        connection.commit()
    assert trial.export().manifest.mode == "full"


@pytest.mark.parametrize(
    ("key", "expression", "mode"),
    [
        ("bytea", "decode(lpad(to_hex(n), 32, '0'), 'hex')", "incremental"),
        ("uuid", "lpad(to_hex(n), 32, '0')::uuid", "incremental"),
        ("numeric", "n + 0.5", "full"),
    ],
)
def test_in_postgres(empty_url: str, tmp_path: Path, key: str, expression: str, mode: str) -> None:
    """UUIDs and bytes are incremental, too; of numeric keys `check` says that they are not."""
    numbers = f"generate_series(1, {IMAGES}) AS n"
    with PostgresConnection(empty_url) as connection:
        connection.script(TABLES.format(key=key, more=""))
        connection.script(f"INSERT INTO projects SELECT {expression}, 'p' FROM generate_series(1, 1) AS n")
        connection.script(f"INSERT INTO images SELECT {expression}, projects.id, n FROM projects, {numbers}")
        connection.script(f"INSERT INTO annotations SELECT {expression}, {expression}, 'car' FROM {numbers}")
        trial = Trial(empty_url, tmp_path / "exports")
        trial.export()
        connection.script("UPDATE images SET filename = 'changed.jpg' WHERE filename = '7'")
        connection.script(
            "DELETE FROM annotations WHERE image_id = (SELECT id FROM images WHERE filename = '300')"
        )
    outcome = trial.export()
    assert outcome.manifest.mode == mode, outcome.reason
    assert trial.differences() == []
    assert ("Every export is a full one" in said_by_check(empty_url, tmp_path)) is (mode == "full")


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (
            "images (id int PRIMARY KEY, filename text) PARTITION BY HASH (id)",
            "public.images is a partitioned table",
        ),
        (
            "images (id int PRIMARY KEY, base text, filename text GENERATED ALWAYS AS (base || '.jpg') VIRTUAL)",
            "public.images.filename is computed when it is read",
        ),
    ],
    ids=["partitioned", "virtual"],
)
def test_an_export_tells_why_it_is_full(empty_url: str, tmp_path: Path, images: str, reason: str) -> None:
    """The reason is that of `check`, and not that the last position is unknown."""
    with PostgresConnection(empty_url) as connection:
        if "VIRTUAL" in images and int(connection.execute("SHOW server_version_num")[0][0]) < 180_000:
            pytest.skip("PostgreSQL has computed columns that are not stored since version 18")
        connection.script(f"CREATE TABLE {images}")
    trial = Trial(empty_url, tmp_path / "exports")
    trial.export()
    assert trial.export().reason == reason
    assert f"Every export is a full one: {reason}." in said_by_check(empty_url, tmp_path)
