"""After each step of a random history, changes.jsonl says what a comparison of the trees before and after says.

`python -m tests.properties.test_logged_histories --steps 2000 --seed 1` plays longer histories and prints figures.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from unittest import mock

import pytest

from autoexport.incremental import plan
from tests.applications import postgres_schema
from tests.databases import Database, PostgresDatabase, SqliteDatabase
from tests.outputs import ALL_OUTPUTS
from tests.postgres import PostgresServer, running_server
from tests.properties import migrations, operations
from tests.properties.comparison import without_waiting_for_the_disk
from tests.properties.histories import OPERATIONS, ORDINARY, History
from tests.properties.logged_changes import check_changes
from tests.properties.schemas import APPLICATION, INTEGERS, Variant
from tests.properties.test_incremental import SESSION, SMALL
from tests.trials import Trial

assert operations.__doc__
assert migrations.__doc__
KINDS = ("SQLite", "PostgreSQL")
SHORT_STEPS = 25
LONGEST_HISTORY = 200
"""Steps on one database; then a new one begins."""

JSON_ALONE = {**dict.fromkeys((name for name in ALL_OUTPUTS if name.startswith("export_")), False)} | {
    "export_json": True, "export_history": True, "export_page": True,
    # An operation makes a second table of annotations, which would otherwise be left out.
    "tables": {"annotations": {"ignore": ["spare_annotations"]}},
}  # fmt: skip


class Logged:
    """A database at work, and the exports that follow it, each by a new exporter."""

    def __init__(self, database: Database, variant: Variant, directory: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._history = History(database.own, variant)
        self._history.populate(60)
        self._trial = Trial(database.url, directory / "exports", **JSON_ALONE)
        self.outcomes: Counter[str] = Counter()
        self._export()

    def step(self) -> None:
        """Up to three operations, each committed or rolled back; then an export and a comparison."""
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            names = sorted(ORDINARY if self._random.random() < 0.95 else OPERATIONS)
            step = self._random.choice(names), self._random.randrange(4000), self._random.randrange(4000)
            if self._random.random() < 0.1:
                with self._history.transaction("ROLLBACK"):
                    self._history.play(*step)
            else:
                self._history.play(*step)
        self._export()

    def _export(self) -> None:
        published = self._trial.directory / "database_export.json"
        before = published.read_bytes() if published.exists() else b""
        outcome = self._trial.export()
        if not outcome.published:
            self.outcomes["unchanged"] += 1
            return
        check_changes(self._trial.directory, before, full=outcome.full)
        self.outcomes["full" if outcome.full else "compared"] += 1


def played(kind: str, step_count: int, seed: int, server: PostgresServer | None) -> Counter[str]:
    """Play a history of so many steps on a new database; the number of exports of each outcome."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch("os.fsync", without_waiting_for_the_disk))
        # A small database has few blocks: without the last limit, most exports would be full.
        for module, name, value in (*SMALL, (plan, "MOST_DIRTY", 1.0)):
            stack.enter_context(mock.patch.object(module, name, value))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variant = (APPLICATION, INTEGERS)[seed % 2]
        database: Database
        if kind == "SQLite":
            database = SqliteDatabase(directory / "application.sqlite3")
            for name, value in SESSION.items():
                database.execute(f"PRAGMA {name} = {value}")
            database.script(variant.sql)
        else:
            assert server is not None
            database = PostgresDatabase(stack.enter_context(server.database("template0")))
            with closing(sqlite3.connect(":memory:")) as tables:
                tables.executescript(variant.sql)
                database.script(";".join(postgres_schema(tables)))
        stack.callback(database.close)
        logged = Logged(database, variant, directory, seed)
        for _ in range(step_count):
            logged.step()
        return logged.outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_agrees_with_the_trees(kind: str, request: pytest.FixtureRequest) -> None:
    """Most exports are incremental, so most lines name changes."""
    server = None if kind == "SQLite" else request.getfixturevalue("postgres_server")
    outcomes = played(kind, SHORT_STEPS, random.randrange(1 << 30), server)
    assert outcomes.total() == SHORT_STEPS + 1
    assert outcomes["compared"] > 0


def main(arguments: Sequence[str]) -> None:
    """Play long histories, a new database every 200 steps, and print a row for each kind of database."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, action="append")
    chosen = parser.parse_args(arguments)
    print("| database | steps | compared | full | unchanged | differing | seconds |")
    print("|---|---|---|---|---|---|---|")
    with ExitStack() as servers:
        kinds = chosen.kind or list(KINDS)
        server = servers.enter_context(running_server()) if "PostgreSQL" in kinds else None
        for kind in kinds:
            outcomes: Counter[str] = Counter()
            begun = time.monotonic()
            for done in range(0, chosen.steps, LONGEST_HISTORY):
                step_count = min(LONGEST_HISTORY, chosen.steps - done)
                outcomes += played(kind, step_count, chosen.seed + done // LONGEST_HISTORY, server)
                print(f"{kind}: {done + step_count} steps, {dict(outcomes)}", file=sys.stderr, flush=True)
            counts = [outcomes[name] for name in ("compared", "full", "unchanged")]
            row = (kind, chosen.steps, *counts, 0, f"{time.monotonic() - begun:.0f}")
            print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
