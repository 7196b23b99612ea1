"""The two directories and the two locks: where the files go, and who may write them now."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from autoexport.errors import ConfigurationError, LockedError, PublishError
from autoexport.files import TEMP_SUFFIX, create_new, disk_errors_explained, explain_os_error, write_all

PUBLISH_LOCK = "publish.lock"
LEADER_LOCK = "leader.lock"
WORKING_FILE = re.compile(r"copy-[0-9a-f]{16}\.sqlite3(-wal|-shm|-journal)?|(spool|pages)-[0-9a-f]{16}")
"""The names, in the state directory, of what is only there while an export goes on."""

_KEPT = rf"{PUBLISH_LOCK}|{LEADER_LOCK}|ledger\.json|position|publishing|status\.(json|sock)"
_OURS = re.compile(rf"{_KEPT}|{WORKING_FILE.pattern}|.+{re.escape(TEMP_SUFFIX)}")
_SCRATCH_PREFIX = ".autoexport-check-"
_SCRATCH = re.compile(rf"{re.escape(_SCRATCH_PREFIX)}[a-z0-9_]{{8}}")
_ASK_AGAIN_S = 0.1
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


class Lock:
    """A lock of the kernel on a file of the state directory: gone when the process is."""

    def __init__(self, state: Path, name: str) -> None:
        self.path = state / name
        self._descriptor: int | None = None

    def try_take(self) -> bool:
        """Take the lock if nobody has it. Raises `PublishError` if the file cannot be opened."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        try:
            # flock, not fcntl: it belongs to the descriptor, so two exporters in one process exclude
            # each other, and closing some other descriptor of the file does not let go of it.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise explain_os_error(error, self.path) from error
        self._descriptor = descriptor
        return True

    def stands(self) -> bool:
        """Whether the lock is ours and its file is still the one that others would try to take."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path, follow_symlinks=False))
        except OSError:
            return False

    def is_held(self) -> bool:
        """Whether some process has it now; nothing is created. Raises `OSError` if it cannot be looked at."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Let go of the lock, also where a process that was forked meanwhile still has the file open."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.asynccontextmanager
async def publishing(state: Path, wait_s: float) -> AsyncIterator[None]:
    """Hold the publish lock; wait at most `wait_s` seconds for whoever has it. Raises `LockedError`."""
    lock = Lock(state, PUBLISH_LOCK)
    clock = asyncio.get_running_loop().time
    deadline = clock() + wait_s
    while not lock.try_take() or not lock.stands():
        # One that does not stand was removed by whoever had it before.
        lock.release()
        if clock() >= deadline:
            raise LockedError(
                f"Another exporter has been writing this export for {wait_s:g} seconds.",
                hint="Wait for it to finish; `status` shows what a running daemon does.",
            )
        await asyncio.sleep(_ASK_AGAIN_S)
    try:
        yield
    finally:
        lock.release()


def remove_unused(state: Path, directory: Path, made: Sequence[Path]) -> None:
    """Take away the directories that were made and never published into."""
    if state in made:
        shutil.rmtree(state, ignore_errors=True)
    if directory in made:
        with contextlib.suppress(OSError):
            directory.rmdir()
