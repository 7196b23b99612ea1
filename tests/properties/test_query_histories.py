"""After any history of a database that queries map, the files equal a full export of the same snapshot.

`python -m tests.properties.test_query_histories --steps 10000 --seed 1` plays longer histories and prints figures.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
import tomllib
from collections import Counter
from contextlib import ExitStack, closing
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import pytest

from autoexport.config.settings import Settings
from tests.conftest import PostgresServer
from tests.databases import Connection, PostgresDatabase, SqliteDatabase
from tests.labelling.cvat import Cvat
from tests.labelling.doccano import Doccano
from tests.postgres import running_server
from tests.properties.comparison import Exporting, without_waiting_for_the_disk

SHORT_STEPS = 25


def tables_of(preset: str) -> dict[str, Any]:
    """The `[tables]` of a preset."""
    text = files("autoexport.mapping.schemas").joinpath(f"{preset}.toml").read_text(encoding="utf-8")
    tables: dict[str, Any] = tomllib.loads(text)["tables"]
    return tables


class History:
    """A database of an application, two sessions that change it, and an exporter that follows it."""

    def __init__(self, kind: str, application: Doccano | Cvat, other: Connection, exporting: Exporting) -> None:
        self.kind = kind
        self._application = application
        self._session, self._other = application.connection, other
        self._exporting = exporting
        self._random: random.Random = application.random
        self._open = False
        self.modes: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()

    def step(self) -> None:
        """Some changes, committed, rolled back, or left open by a second session; then an export."""
        choice = self._random.random()
        if self._open and choice < 0.5:
            self._other.execute("COMMIT" if self._random.random() < 0.7 else "ROLLBACK")
            self._open = False
        elif not self._open and choice < 0.15 and self.kind != "doccano on SQLite":
            # A transaction of a concurrent writer: it began before the export and ends after it.
            self._other.execute("BEGIN")
            self._application.connection = self._other
            self._change()
            self._application.connection = self._session
            self._open = True
        elif choice < 0.3:
            self._session.execute("BEGIN")
            for _ in range(3):
                self._change()
            self._session.execute("COMMIT" if choice < 0.22 else "ROLLBACK")
        else:
            for _ in range(self._random.choice((1, 1, 1, 4))):
                self._change()
        done = asyncio.run(self._exporting.export())
        self.modes[done.outcome.manifest.mode if done.outcome.published else "unchanged"] += 1

    def _change(self) -> None:
        # A row that the other session has changed and not committed would be waited for.
        if self._open or self._application.connection is self._other:
            self._session.execute("SET lock_timeout = '10ms'")
            self._other.execute("SET lock_timeout = '10ms'")
            inside = self._application.connection is self._other
            if inside:
                self._other.execute("SAVEPOINT change")
            try:
                self.changes[self._application.change()] += 1
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                if inside:
                    self._other.execute("ROLLBACK TO change")
                else:
                    self._session.execute("ROLLBACK")
            return
        self.changes[self._application.change()] += 1


def histories(stack: ExitStack, kind: str, directory: Path, seed: int, server: PostgresServer | None) -> History:
    """A history of this kind, whose database and sessions end with the stack."""
    database: SqliteDatabase | PostgresDatabase
    if kind == "doccano on SQLite":
        database = SqliteDatabase(directory / "app.sqlite3")
    else:
        assert server is not None
        database = PostgresDatabase(stack.enter_context(server.database("template0")))
    session, other = (stack.enter_context(closing(database.connect())) for _ in range(2))
    if "SQLite" in kind:
        session.execute("PRAGMA page_size = 512")  # A changed row marks all rows of its page.
    application: Doccano | Cvat
    if kind.startswith("doccano"):
        application = Doccano(session, sqlite="SQLite" in kind, seed=seed)
    else:
        application = Cvat(session, seed=seed)
    settings = Settings(tables=tables_of(kind.partition(" ")[0]))
    outputs = {"export_coco": False, "export_parquet": False}
    exporting = Exporting(database.url, directory, tables=settings.tables, **outputs)
    return History(kind, application, other, exporting)


KINDS = ("doccano on SQLite", "doccano on PostgreSQL", "cvat on PostgreSQL")


@pytest.mark.parametrize("kind", KINDS)
def test_incremental_exports_of_queries_equal_full_ones(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each step is compared byte by byte, and most exports are incremental."""
    server = None if "SQLite" in kind else request.getfixturevalue("postgres_server")
    with ExitStack() as stack:
        stack.enter_context(mock.patch("os.fsync", without_waiting_for_the_disk))
        history = histories(stack, kind, tmp_path, random.randrange(1 << 30), server)
        for _ in range(SHORT_STEPS):
            history.step()
    assert history.modes["incremental"] + history.modes["unchanged"] > 0


def main(arguments: list[str]) -> None:
    """Play long histories, a new database every 100 steps, and print a row a kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, action="append")
    chosen = parser.parse_args(arguments)
    os.fsync = without_waiting_for_the_disk
    print("| kind | steps | changes | published | unchanged | full | missed | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    with ExitStack() as servers:
        kinds = chosen.kind or list(KINDS)
        needed = any("PostgreSQL" in kind for kind in kinds)
        server = servers.enter_context(running_server()) if needed else None
        for kind in kinds:
            modes: Counter[str] = Counter()
            changes, begun, done = 0, time.monotonic(), 0
            while done < chosen.steps // len(kinds):
                with ExitStack() as stack:
                    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                    history = histories(stack, kind, directory, chosen.seed + done, server)
                    for _ in range(min(100, chosen.steps // len(kinds) - done)):
                        history.step()
                        done += 1
                modes += history.modes
                changes += history.changes.total()
                print(f"{kind}: {done} steps, {dict(modes)}", file=sys.stderr, flush=True)
            row = (kind, done, changes, modes["incremental"], modes["unchanged"], modes["full"], 0)
            print("|", " | ".join(map(str, row)), f"| {time.monotonic() - begun:.0f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
