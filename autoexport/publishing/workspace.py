"""Makes and cleans the export directory, the private state directory and scratch directories."""

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
from autoexport.formats import file_patterns
from autoexport.publishing.locks import LEADER_LOCK, PUBLISH_LOCK, Lock
from autoexport.runtime.files import (
    TEMP_SUFFIX,
    create_new,
    disk_errors_explained,
    explain_os_error,
    give_hint,
    other_owner,
    write_all,
)

WORKING_FILE = re.compile(r"copy-[0-9a-f]{16}\.sqlite3(-wal|-shm|-journal)?|(spool|pages)-[0-9a-f]{16}")
"""Names of the files in the state directory that exist only during an export."""

_KEPT = (
    rf"{PUBLISH_LOCK}|{LEADER_LOCK}|(ledger|lake)\.json|position|publishing|labelling|unlisted|object_store\.json"
    r"|status\.(json|sock)"
)

_OURS = re.compile(rf"{_KEPT}|{WORKING_FILE.pattern}|.+{re.escape(TEMP_SUFFIX)}")

_SCRATCH_PREFIX = ".autoexport-check-"
_SCRATCH = re.compile(rf"{re.escape(_SCRATCH_PREFIX)}[a-z0-9_]{{8}}")

_IGNORE = b"# private to autoexport; if you remove this folder, the next export is a full one\n*\n"


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A private directory in `folder`, removed afterwards. Raises `OSError`.

    It is locked while it is in use. If the process is killed, `abandoned` finds it.
    """
    while True:
        with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=folder) as name:
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.isdir(name):  # Another process may have removed it as abandoned before it was locked.
                    yield Path(name)
                    return
            finally:
                os.close(descriptor)


def abandoned(folder: Path) -> list[Path]:
    """The scratch directories of this user in `folder` that no process uses any more."""
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
    """Make the export and the state directory; remove the new ones again if the block raises.

    Raises `PublishError` for an `OSError`, also for one in the block, and `ConfigurationError` if the state
    directory is used for other things.
    """
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
    """Remove the lock files of a directory that is not in use: this process must get both locks first."""
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
    """Make a directory with this mode, and its missing parents; returns the new ones."""
    made: list[Path] = []
    for folder in reversed([path, *path.parents]):
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
    """Refuse directories that cannot be used, and make the state directory private."""
    for path in (directory, state):
        if not path.is_dir():
            raise PublishError(
                f"{path} is a file, not a directory.",
                hint="Choose another --export-dir, or move that file away.",
            )
        if not os.access(path, os.W_OK | os.X_OK):
            owner = other_owner(path)
            raise PublishError(
                f"No permission to write to {path}{'' if owner is None else f', which belongs to {owner}'}.",
                hint="Let this user write to that directory." if owner is None else give_hint(path, owner),
            )
    if state.is_symlink():
        raise PublishError(
            f"{state} is a symbolic link.", hint="Set DB_EXPORT_STATE_DIRECTORY to the directory itself."
        )
    try:
        # Working copies of the database lie here, so no other user may read it.
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
    """Raise `ConfigurationError` for a directory with files of other programs.

    The exporter must not change its mode, nor mix its own files with theirs. Directories inside a private one do
    not count: they may be the export directory or `lost+found`.
    """
    names = {path.name for path in state.iterdir() if not (private and path.is_dir())} - {".gitignore"}
    if names and not any(map(_OURS.fullmatch, names)):
        raise ConfigurationError(
            f"{state} is used for other things, and the state directory must be private.",
            hint="Set DB_EXPORT_STATE_DIRECTORY to a directory of its own. It is made if it is missing.",
        )


def remove_unused(state: Path, directory: Path, made: Sequence[Path]) -> None:
    """Remove the directories that are in `made`: nothing was ever published into them."""
    if state in made:
        shutil.rmtree(state, ignore_errors=True)
    if directory in made:
        with contextlib.suppress(OSError):
            directory.rmdir()


def sweep(directory: Path, state: Path) -> int:
    """Remove the leftovers of a killed exporter and return their number. The caller holds the publish lock."""
    leftovers = [path for path in directory.glob(f".*{TEMP_SUFFIX}") if not path.is_dir()]
    for folder in {pattern.rpartition("/")[0] for pattern in file_patterns()}:
        leftovers += [path for path in directory.glob(f"{folder}/.*{TEMP_SUFFIX}") if not path.is_dir()]
    leftovers += [path for path in state.glob(f".*{TEMP_SUFFIX}") if not path.is_dir()]
    leftovers += [path for path in state.iterdir() if WORKING_FILE.fullmatch(path.name)]
    for path in leftovers:
        with suppress(OSError):
            path.unlink()
    scratches = [path for folder in {state, directory, directory.parent} for path in abandoned(folder)]
    for path in scratches:
        shutil.rmtree(path, ignore_errors=True)
    return len(leftovers) + len(scratches)
