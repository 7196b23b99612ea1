"""Creates the measured databases once for each size, in SQLite and PostgreSQL, from the same rows."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.applications import INDEXES
from tests.bench.results import BenchError
from tests.bench.running import environment, python

ANNOTATIONS_PER_IMAGE = 5.5
SERVER_SETTINGS = {
    "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}  # fmt: skip
"""The settings of an application's server, not of the tests': the cost of a commit is part of the measurement."""


@dataclass(slots=True)
class Databases:
    """Creates databases in a directory on first use, and keeps them there for the next run."""

    directory: Path
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _server: object = None
    _urls: dict[tuple[int, bool], str] = field(default_factory=dict)

    def sqlite(self, images: int, *, indexed: bool = False, journal: str = "delete") -> Path:
        """A file of the application, which must not be changed (see `sqlite_copy`)."""
        wanted = self._file(images, indexed, journal)
        if not wanted.exists():
            plain = self._file(images, False, "delete")
            if not plain.exists():
                unfinished = _unfinished(plain)
                _generate(images, str(unfinished))
                unfinished.rename(plain)
            if wanted != plain:
                self._derive(plain, wanted, indexed, journal)
        return wanted

    def _file(self, images: int, indexed: bool, journal: str) -> Path:
        return self.directory / f"application-{images}{'-indexed' if indexed else ''}-{journal}.sqlite3"

    def _derive(self, plain: Path, wanted: Path, indexed: bool, journal: str) -> None:
        target = _unfinished(wanted)
        shutil.copyfile(plain, target)
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as connection:
            for statement in INDEXES if indexed else ():
                connection.execute(statement)
            connection.execute(f"PRAGMA journal_mode = {journal}")
        target.rename(wanted)

    @contextlib.contextmanager
    def sqlite_copy(self, images: int, *, indexed: bool = False, journal: str = "delete") -> Iterator[Path]:
        """A copy that may be changed; it is deleted afterwards."""
        original = self.sqlite(images, indexed=indexed, journal=journal)
        copy = self.directory / "changing" / "application.sqlite3"
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        shutil.copyfile(original, copy)
        os.sync()
        try:
            yield copy
        finally:
            shutil.rmtree(copy.parent)

    def postgres(self, images: int, *, indexed: bool = False) -> str:
        """The URL of a database of the bench's own server. Raises BenchError if there is no server."""
        found = self._urls.get((images, indexed))
        if found is None:
            found = self._new_postgres(images, indexed)
            self._urls[images, indexed] = found
        return found

    def _new_postgres(self, images: int, indexed: bool) -> str:
        from tests.postgres import PostgresServer, running_server

        if self._server is None:
            try:
                self._server = self._stack.enter_context(running_server(settings=SERVER_SETTINGS))
            except RuntimeError as exc:
                raise BenchError(str(exc)) from exc
        assert isinstance(self._server, PostgresServer)
        url = self._server.url(self._server.create_database("template0"))
        _generate(images, "--postgres", url, *(["--indexes"] if indexed else []))
        return url

    def close(self) -> None:
        """Stop the server; its databases go with it."""
        self._stack.close()


def _unfinished(path: Path) -> Path:
    """The path at which a file is built, so that an interrupted one is not taken for complete."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    return unfinished


def _generate(images: int, *arguments: str) -> None:
    amount = ("--images", str(images), "--annotations-per-image", str(ANNOTATIONS_PER_IMAGE))
    done = subprocess.run(
        python("tests.bench.generate", *arguments, *amount), env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"no database of {images} images: {done.stderr.strip().splitlines()[-1:]}")
