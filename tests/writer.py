"""Plays an application that commits changes of all kinds until it is told to stop.

`python -m tests.writer URL SEED` runs until its standard input is closed. Both descriptions of projects 1 and 2
are set to the number of the commit, so that any snapshot shows them equal.
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from tests.applications import key
from tests.conftest import REPOSITORY, program_environment
from tests.databases import Connection, Database, PostgresDatabase, SqliteDatabase
from tests.deadlines import deadline_s
from tests.population import COLUMNS, annotation_row, image_row

PAUSE_S = 0.02
"""Seconds between commits, in which an exporter can make its copy in rollback-journal mode."""

SEALED = (1, 2)
"""The projects whose descriptions are the number of the last commit."""


class Writer:
    """The application as a process of its own."""

    def __init__(self, url: str, seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.writer", url, str(seed)], cwd=REPOSITORY,
            env=program_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "writing\n"
        self.commits = 0

    def stop(self) -> int:
        """Let it finish its commit and end. Returns the number of commits."""
        if self._process.returncode is None:
            said, _ = self._process.communicate(timeout=deadline_s(60))
            assert self._process.returncode == 0
            self.commits = int(said)
        return self.commits

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        elif self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


# --- what it does ----------------------------------------------------------------------------------


def _insert(session: Connection, table: str, row: tuple[object, ...]) -> None:
    names = ", ".join(COLUMNS[table])
    session.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", *row)  # type: ignore[arg-type]


def _some(session: Connection, table: str, draw: random.Random) -> str | int | None:
    found = session.execute(f"SELECT id FROM {table} ORDER BY id")
    return draw.choice(found)[0] if found else None


def add_image(session: Connection, draw: random.Random, number: int) -> None:
    """Add an image with two annotations to any dataset."""
    image = image_row(100_000 + number, str(_some(session, "datasets", draw)), filename=f"new {number}.jpg")
    _insert(session, "images", image)
    for one in range(2):
        _insert(session, "annotations", annotation_row(1_000_000 + 2 * number + one, str(image[0])))


def remove_image(session: Connection, draw: random.Random, number: int) -> None:
    """Remove an image and its annotations, unless few images are left."""
    image = _some(session, "images", draw)
    if session.execute("SELECT count(*) FROM images")[0][0] > 10:
        session.execute("DELETE FROM annotations WHERE image_id = ?", image)
        session.execute("DELETE FROM images WHERE id = ?", image)


def move_image(session: Connection, draw: random.Random, number: int) -> None:
    """Move an image to any dataset."""
    dataset, image = _some(session, "datasets", draw), _some(session, "images", draw)
    session.execute("UPDATE images SET dataset_id = ? WHERE id = ?", dataset, image)


def correct(session: Connection, draw: random.Random, number: int) -> None:
    """Change a box."""
    session.execute(
        "UPDATE annotations SET x_min = ? WHERE id = ?", number + 0.25, _some(session, "annotations", draw)
    )


def rename(session: Connection, draw: random.Random, number: int) -> None:
    """Rename a dataset, whose name is in every line of its images."""
    session.execute("UPDATE datasets SET name = ? WHERE id = ?", f"set {number}", _some(session, "datasets", draw))


def relabel(session: Connection, draw: random.Random, number: int) -> None:
    """Give all annotations of one image another label."""
    session.execute("UPDATE annotations SET class_name = ? WHERE image_id = ?", f"class {number % 7}", key(104))


WORK: tuple[Callable[[Connection, random.Random, int], None], ...] = (
    add_image, add_image, remove_image, move_image, correct, correct, rename, relabel,
)  # fmt: skip


def work_once(session: Connection, draw: random.Random, number: int) -> None:
    """Commit one transaction with one of these changes."""
    session.execute("BEGIN")
    draw.choice(WORK)(session, draw, number)
    session.execute("UPDATE projects SET description = ? WHERE id IN (1, 2)", f"commit {number}")
    session.execute("COMMIT")


def database_of(url: str) -> Database:
    """The database of a URL."""
    if url.startswith("sqlite:///"):
        return SqliteDatabase(Path(url.removeprefix("sqlite:///")))
    return PostgresDatabase(url)


def write_until(url: str, seed: int, enough: threading.Event) -> int:
    """Work until `enough` is set, even if the server goes and comes back. Returns the number of commits."""
    database, draw = database_of(url), random.Random(seed)
    number = seed * 1_000_000
    made = 0
    while not enough.is_set():
        number += 1
        try:
            work_once(database.own, draw, number)
            made += 1
        except sqlite3.OperationalError:
            database.close()  # locked for too long: the transaction is given up
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            database.close()
            enough.wait(0.2)
        enough.wait(PAUSE_S)
    database.close()
    return made


def main() -> None:
    """Work in a thread until standard input ends."""
    enough = threading.Event()
    made: list[int] = []
    thread = threading.Thread(target=lambda: made.append(write_until(sys.argv[1], int(sys.argv[2]), enough)))
    thread.start()
    sys.stdout.write("writing\n")
    sys.stdout.flush()
    sys.stdin.read()
    enough.set()
    thread.join()
    sys.stdout.write(f"{made[0] if made else -1}\n")


if __name__ == "__main__":
    main()
