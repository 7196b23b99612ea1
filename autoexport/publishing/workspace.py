"""The two directories and the two locks: where the files go, and who may write them now."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from autoexport.errors import ConfigurationError, PublishError
from autoexport.publishing.locks import LEADER_LOCK, PUBLISH_LOCK, Lock
from autoexport.runtime.files import TEMP_SUFFIX, create_new, disk_errors_explained, explain_os_error, write_all

WORKING_FILE = re.compile(r"copy-[0-9a-f]{16}\.sqlite3(-wal|-shm|-journal)?|(spool|pages)-[0-9a-f]{16}")
"""The names, in the state directory, of what is only there while an export goes on."""

_KEPT = rf"{PUBLISH_LOCK}|{LEADER_LOCK}|ledger\.json|position|publishing|status\.(json|sock)"

_OURS = re.compile(rf"{_KEPT}|{WORKING_FILE.pattern}|.+{re.escape(TEMP_SUFFIX)}")

_SCRATCH_PREFIX = ".autoexport-check-"
_SCRATCH = re.compile(rf"{re.escape(_SCRATCH_PREFIX)}[a-z0-9_]{{8}}")

_IGNORE = b"# private to autoexport; remove the folder and the next export is a full one\n*\n"


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A private directory in this one, gone afterwards; else it is `abandoned`. Raises `OSError`."""
    while True:
        with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=folder) as name:
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.isdir(name):  # Nobody took it for an abandoned one before it was locked.
                    yield Path(name)
                    return
            finally:
                os.close(descriptor)


def abandoned(folder: Path) -> list[Path]:
    """The scratch directories in this one that nobody uses any more."""
    found = []
    for path in folder.glob(f"{_SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _SCRATCH.fullmatch(path.name) and os.fstat(descriptor).st_uid == os.geteuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found.append(path)
            finally:
                os.close(descriptor)
    return found


@contextlib.contextmanager
def directories(directory: Path, state: Path) -> Iterator[None]:
    """Make the export and the state directory; take them away again if nothing came of it. Raises what the
    operating system refuses, inside as well, as `PublishError`."""
    with disk_errors_explained(directory):
        made = _make(directory, 0o777) + _make(state, 0o700)
        try:
            _check(directory, state)
            yield
        except BaseException:
            if made:
                with contextlib.suppress(OSError, PublishError):
                    _remove_locks(state)
            for path in reversed(made):
                with contextlib.suppress(OSError):
                    path.rmdir()
            raise


def _remove_locks(state: Path) -> None:
    """Remove the lock files of a directory that nobody uses: while they are held here, nobody else holds them."""
    with contextlib.ExitStack() as held:
        for name in (PUBLISH_LOCK, LEADER_LOCK):
            if (state / name).exists():
                lock = Lock(state, name)
                if not lock.try_take():
                    return
                held.callback(lock.release)
        for name in (PUBLISH_LOCK, LEADER_LOCK, ".gitignore"):
            (state / name).unlink(missing_ok=True)


def _make(path: Path, mode: int) -> list[Path]:
    made: list[Path] = []
    missing = [path, *path.parents]
    for folder in reversed(missing):
        if not folder.exists():
            try:
                folder.mkdir(mode=mode if folder == path else 0o777)
            except FileExistsError:
                continue
            except OSError as error:
                raise explain_os_error(error, folder) from error
            made.append(folder)
    return made


def _check(directory: Path, state: Path) -> None:
    for path in (directory, state):
        if not path.is_dir():
            raise PublishError(
                f"{path} is a file, not a directory.",
                hint="Choose another --export-dir, or move that file away.",
            )
        if not os.access(path, os.W_OK | os.X_OK):
            raise PublishError(f"No permission to write to {path}.", hint="Let this user write to that directory.")
    if state.is_symlink():
        raise PublishError(
            f"{state} is a symbolic link.", hint="Set DB_EXPORT_STATE_DIRECTORY to the directory itself."
        )
    try:
        # Working copies of the database lie here: nobody else may look.
        private = stat.S_IMODE(state.stat().st_mode) == 0o700
        _refuse_shared(state, private=private)
        if not private:
            state.chmod(0o700)
        with contextlib.suppress(FileExistsError):
            descriptor = create_new(state / ".gitignore")
            try:
                write_all(descriptor, _IGNORE)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise explain_os_error(error, state) from error


def _refuse_shared(state: Path, *, private: bool) -> None:
    """Raise `ConfigurationError` for a directory that others use: its mode is not ours to change, and our files
    are not to lie among theirs. (Directories in one that is private may be the export's own, or lost+found.)"""
    names = {path.name for path in state.iterdir() if not (private and path.is_dir())} - {".gitignore"}
    if names and not any(map(_OURS.fullmatch, names)):
        raise ConfigurationError(
            f"{state} is used for other things, and the state directory must be private.",
            hint="Set DB_EXPORT_STATE_DIRECTORY to a directory of its own; it is made if it is not there.",
        )


def remove_unused(state: Path, directory: Path, made: Sequence[Path]) -> None:
    """Take away the directories that were made and never published into."""
    if state in made:
        shutil.rmtree(state, ignore_errors=True)
    if directory in made:
        with contextlib.suppress(OSError):
            directory.rmdir()


def sweep(directory: Path, state: Path) -> int:
    """Remove what a killed exporter left behind; only under the publish lock. Returns how many files."""
    leftovers = [path for path in directory.glob(f".*{TEMP_SUFFIX}") if not path.is_dir()]
    leftovers += [path for path in state.glob(f".*{TEMP_SUFFIX}") if not path.is_dir()]
    leftovers += [path for path in state.iterdir() if WORKING_FILE.fullmatch(path.name)]
    for path in leftovers:
        with suppress(OSError):
            path.unlink()
    scratch = [path for folder in {state, directory, directory.parent} for path in abandoned(folder)]
    for path in scratch:
        shutil.rmtree(path, ignore_errors=True)
    return len(leftovers) + len(scratch)
