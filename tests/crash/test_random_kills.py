"""After SIGKILL at any system call or moment, no file is torn and the next export is right."""

from __future__ import annotations

import csv
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autoexport.formats import file_names
from autoexport.runtime.files import TEMP_SUFFIX
from tests.crash.yard import Death, Yard
from tests.databases import Database, SqliteDatabase
from tests.outputs import PUBLIC_NAMES
from tests.trials import Trial
from tests.writer import SEALED, Writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="which file a descriptor is of, /proc tells")

CI_KILLS, SOAK_KILLS = 10, 340
"""For each kind of database: 30 and 1,020 together."""


@dataclass
class Tally:
    """The counts of the kills."""

    kills: int = 0
    by_call: int = 0
    mixed: int = 0
    where: Counter[str] = field(default_factory=Counter)

    def add(self, death: Death, *, mixed: bool) -> None:
        """Count an order; `mixed`: the set did not fit its manifest afterwards."""
        self.kills += death.killed
        self.by_call += death.killed and bool(death.at)
        self.mixed += mixed
        self.where[death.at.partition("(")[0] or "between calls"] += death.killed


def check_directory(trial: Trial) -> bool:
    """Check that all files are whole and have documented names. Returns whether the set fits its manifest."""
    if not trial.directory.exists():
        return False
    documented = {*PUBLIC_NAMES, ".autoexport"}
    strange = {path.name for path in trial.directory.iterdir()} - documented
    assert all(name.startswith(".") and name.endswith(TEMP_SUFFIX) for name in strange), strange
    fits = trial.check_set()
    check_one_snapshot(trial, fits=fits)
    return fits


def check_one_snapshot(trial: Trial, *, fits: bool) -> None:
    """Check that two rows, equal in every commit, are equal in each file and in all files of a set."""
    tree, table = trial.directory / file_names()[0], trial.directory / "projects.csv"
    seen: list[set[str]] = []
    if tree.exists():
        projects = json.loads(tree.read_bytes())["projects"]
        seen.append({project["description"] for project in projects if project["id"] in SEALED})
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            seen.append({row["description"] for row in csv.DictReader(file) if int(row["project_id"]) in SEALED})
    assert all(len(words) == 1 for words in seen), f"a file of two snapshots: {seen}"
    assert not fits or len(set.union(*seen)) == 1, f"a set of two snapshots: {seen}"


def kill_again_and_again(database: Database, trial: Trial, kills: int, draw: random.Random) -> Tally:
    """Kill exports, half of them ahead of a system call and half at a moment.

    After about half of the kills the next export may finish.
    """
    tally = Tally()
    with Yard(database.url, trial.directory) as yard, Writer(database.url, seed=1):
        longest_s = yard.order("whole").duration_s
        while tally.kills < kills:
            order = (
                f"call {draw.randint(1, 110)}" if draw.random() < 0.5 else f"after {draw.uniform(0, longest_s)}"
            )
            death = yard.order(order)
            tally.add(death, mixed=not check_directory(trial))
            if draw.random() < 0.5:
                yard.order("whole")
                assert check_directory(trial), f"after {death.at or order} the set did not become whole again"
                assert not trial.leftovers(), f"after {death.at or order}"
    return tally


def prepare(database: Database) -> None:
    """Make the rows that identify a snapshot equal from the start."""
    database.execute("UPDATE projects SET description = 'commit 0' WHERE id IN (1, 2)")


def run(database: Database, directory: Path, kills: int, seed: int) -> Tally:
    """Kill exports, let the last one finish, and check that its files equal the database, without leftovers."""
    prepare(database)
    trial = Trial(database.url, directory)
    tally = kill_again_and_again(database, trial, kills, random.Random(seed))
    trial.export()
    assert trial.fits_manifest()
    assert not trial.leftovers()
    assert not trial.differences()
    if isinstance(database, SqliteDatabase):
        trial.check_equals(database.path)
    return tally


def test_a_few_kills(database: Database, tmp_path: Path) -> None:
    """Ten kills of both sorts tear no file."""
    tally = run(database, tmp_path / "exports", CI_KILLS, seed=random.randrange(1 << 30))
    assert tally.kills == CI_KILLS


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_thousand_kills(database: Database, tmp_path: Path) -> None:
    """A thousand kills over the three kinds of database tear no file."""
    tally = run(database, tmp_path / "exports", SOAK_KILLS, seed=random.randrange(1 << 30))
    assert tally.kills == SOAK_KILLS
    assert tally.mixed, "some kills were between two renames"
    print(f"{database.kind}: {tally.kills} kills ({tally.by_call} ahead of a system call, {tally.mixed} between "
          f"renames or before the first), torn 0, left behind 0; {dict(tally.where)}")  # fmt: skip
