"""When a system call on its directories fails, an export says so, tears nothing, and succeeds next time."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoexport.errors import AutoexportError
from autoexport.runtime.files import TEMP_SUFFIX
from tests.applications import create_sqlite, fill_sqlite
from tests.databases import SqliteDatabase
from tests.disk_calls import Call, watched
from tests.trials import Trial, open_descriptors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, to find the file of a descriptor")

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)
NUMBERS = {errno.errorcode[number]: number for number in ERRORS}
CALLS_LIMIT = 6_000
CHANGES = (
    "UPDATE images SET filename = ? WHERE id = (SELECT min(id) FROM images)",
    "UPDATE projects SET name = ? WHERE id = 1",
)


class Fault:
    """Lets the call of one number fail, and notes which call that was."""

    def __init__(self, number: int, code: int) -> None:
        self.number = number
        self.code = code
        self.hit: Call | None = None

    def __call__(self, call: Call) -> None:
        if call.number == self.number:
            self.hit = call
            raise OSError(self.code, os.strerror(self.code), call.file)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """The sample rows, in a file without WAL."""
    connection = create_sqlite(tmp_path / "application.sqlite3")
    fill_sqlite(connection)
    connection.close()
    made = SqliteDatabase(tmp_path / "application.sqlite3")
    yield made
    made.close()


def attempt(trial: Trial, fault: Fault) -> tuple[int, str] | None:
    """Export with the fault. Returns the error's exit code and hint, or None if the export succeeded."""
    with watched([trial.directory], fault):
        try:
            trial.export()
        except AutoexportError as error:
            return error.exit_code, error.hint
    return None


def fail_once(trial: Trial, fault: Fault) -> None:
    """Export with the fault and check the directories, then export without it and check them again."""
    old, descriptors = trial.contents(), open_descriptors()
    told = attempt(trial, fault)
    assert told is None or (told[0] == 1 and told[1]), f"{fault.hit}: exit code and hint are {told}"
    assert open_descriptors() == descriptors, f"{fault.hit}: a descriptor leaked"
    there, fits = trial.contents(), trial.fits_manifest()
    # The files of a new folder may be there before the manifest that lists them.
    left = [name for name in trial.leftovers() if "/" not in name or name.endswith(TEMP_SUFFIX)]
    assert told or fits, f"{fault.hit} was passed over, and the files do not fit the manifest"
    assert not left or (fault.hit and fault.hit.name == "unlink"), f"{fault.hit}: left behind {left}"
    trial.export()
    new = trial.contents()
    # The files of a project go with its name.
    assert {name for name in old if "/" not in name} <= set(there)
    for name, content in there.items():
        assert content in (old.get(name), new.get(name)), f"{fault.hit}: {name} was neither old nor new"
    assert not trial.leftovers()
    assert trial.fits_manifest()


def fail_everywhere(database: SqliteDatabase, trial: Trial, code: int, step: int, *, first: bool) -> int:
    """Let every `step`-th call fail, one for each export. Returns the number of calls."""
    start = 1 + 5 * ERRORS.index(code) % step
    for number in range(start, CALLS_LIMIT, step):
        if first:
            shutil.rmtree(trial.directory, ignore_errors=True)
        for change in CHANGES:
            database.execute(change, f"name {number}")
        fault = Fault(number, code)
        fail_once(trial, fault)
        if fault.hit is None:
            assert not trial.differences()
            return number
    raise AssertionError("an export makes more calls than were thought possible")


@pytest.mark.parametrize("first", [True, False], ids=["first", "next"])
@pytest.mark.parametrize("code", NUMBERS.values(), ids=NUMBERS)
def test_a_call_that_fails(database: SqliteDatabase, tmp_path: Path, code: int, first: bool) -> None:
    """An export survives the failure of each sixtieth call, beginning with another one for each error."""
    trial = Trial(database.url, tmp_path / "exports")
    trial.export()
    assert fail_everywhere(database, trial, code, 60, first=first) > 40
    trial.check_equals(database.path)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", [True, False], ids=["first", "next"])
@pytest.mark.parametrize("code", NUMBERS.values(), ids=NUMBERS)
def test_every_call_fails_with_every_error(
    database: SqliteDatabase, tmp_path: Path, code: int, first: bool
) -> None:
    """An export survives the failure of any call with any error."""
    trial = Trial(database.url, tmp_path / "exports")
    trial.export()
    calls = fail_everywhere(database, trial, code, 1, first=first)
    print(f"{calls - 1} faults, torn 0, left behind 0")
    trial.check_equals(database.path)
