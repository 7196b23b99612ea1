"""Exports to a full disk, at any point of the export: a tmpfs with a ballast that shrinks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoexport.errors import AutoexportError
from autoexport.publishing import directory
from tests.bench.generate import write_sqlite
from tests.small_disk import small_disk
from tests.trials import Trial, open_descriptors

DISK_BYTES = 48 << 20
STEP_BYTES = 256 << 10

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux may mount a tmpfs"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    with small_disk(tmp_path / "disk", DISK_BYTES) as place:
        yield place


def leave_room(disk: Path, room_bytes: int) -> None:
    """Make the ballast so large that only this much is free."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    free = shutil.disk_usage(disk).free
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - room_bytes))


def failure(trial: Trial) -> AutoexportError | None:
    """The error of an export, or None.

    It is without its traceback, which would keep files open.
    """
    try:
        trial.export()
    except AutoexportError as error:
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    return None


def test_no_room_at_any_point(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export without room for any of its files says so, keeps the old files, and succeeds later."""
    monkeypatch.setattr(directory, "check_room", lambda directory, needed_bytes: None)  # so that writing fails
    database = tmp_path / "application.sqlite3"
    write_sqlite(database, images=600, annotations_per_image=4, seed=1, indexes=False, journal="delete")
    trial = Trial(f"sqlite:///{database}", disk / "exports")
    trial.export()
    old = trial.contents()
    size = database.stat().st_size
    rename = "UPDATE projects SET name = name || '!'; UPDATE images SET file_size = file_size + 1"
    subprocess.run(
        [sys.executable, "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])",
         str(database), rename], check=True,
    )  # fmt: skip
    told: set[str] = set()
    descriptors = open_descriptors()
    for room_bytes in range(0, 12 * size, STEP_BYTES):
        leave_room(disk, room_bytes)
        if (failed := failure(trial)) is None:
            break
        assert failed.hint
        assert "room" in str(failed)
        told.add(type(failed).__name__)
        assert not trial.leftovers()
        assert trial.contents() == old
        assert trial.fits_manifest()
        del failed
    else:
        raise AssertionError("twelve times the room was not enough")
    assert open_descriptors() == descriptors
    assert told == {"SourceError", "PublishError"}, "no room for the copy, and none for the files"
    trial.check_equals(database)


def test_the_room_is_checked_before(disk: Path, tmp_path: Path) -> None:
    """No export begins if the new files do not fit beside the old ones."""
    database = tmp_path / "application.sqlite3"
    write_sqlite(database, images=20, annotations_per_image=1, seed=1, indexes=False, journal="delete")
    trial = Trial(f"sqlite:///{database}", disk / "exports")
    leave_room(disk, 4 << 20)
    with pytest.raises(AutoexportError, match="No room"):
        trial.export()
    assert not (disk / "exports").exists(), "what was made for nothing is taken away again"
