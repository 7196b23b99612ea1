"""Publishes into a local directory: renames the staged files, syncs the directory, writes the manifest last."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from autoexport.errors import PublishError
from autoexport.formats import file_names
from autoexport.publishing import label_files
from autoexport.publishing.backups import keep_unknown
from autoexport.publishing.file_watch import PublishedFilesWatch
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.in_place import InPlace
from autoexport.publishing.layout import Layout
from autoexport.publishing.locks import LOCK_WAIT_S, Lock, publishing
from autoexport.publishing.manifest import MANIFEST_NAME, Manifest
from autoexport.publishing.splice import Spools, Staged, find_identical, stage
from autoexport.publishing.throttle import DiskThrottle
from autoexport.publishing.workspace import directories, sweep
from autoexport.runtime.files import (
    disk_errors_explained,
    explain_os_error,
    fsync_directory,
    held_open,
    replace_durably,
)
from autoexport.runtime.threads import in_thread

PUBLISHING = "publishing"
"""The name of a mark in the state directory: a first publish began and has not finished."""

LABELLING = "labelling"
"""The name of a mark in the state directory: label files were written, and the ledger is not theirs yet."""

_MOST_HELD = 50
"""So many replaced files are held open, the largest. COCO may have thousands, a process 1,024 open ones."""

_RESERVE_BYTES = 16 << 20
"""Space that stays free on the disk beside the new files."""


class DirectoryTarget(InPlace):
    """A directory of the local machine. `Target` documents each method."""

    def __init__(self, directory: Path, state: Path) -> None:
        self.directory = directory
        self._state = state

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Make the directory, take its publish lock and remove leftovers."""
        with directories(self.directory, self._state):
            async with publishing(self._state, LOCK_WAIT_S):
                await in_thread(sweep, self.directory, self._state)
                yield

    def read_manifest(self) -> Manifest | None:
        """Read `manifest.json`."""
        text = self.read_manifest_text()
        return Manifest.from_json(text) if text is not None else None

    def read_manifest_text(self) -> bytes | None:
        """Read the bytes of `manifest.json`."""
        try:
            return (self.directory / MANIFEST_NAME).read_bytes()
        except OSError:
            return None

    def identify(self, file_name: str, crc: int) -> FileIdentity | None:
        """Read the status of the file."""
        try:
            return FileIdentity.of(self.directory / file_name, crc)
        except OSError:
            return None

    def find_identical(self, layout: Layout, spools: Spools, known: FileIdentity | None) -> FileIdentity | None:
        """Compare the published file with the layout."""
        return find_identical(layout, spools, self.directory, known)

    def check_room(self, needed_bytes: int) -> None:
        """Ask the file system for its free space."""
        check_room(self.directory, needed_bytes)

    def stage(self, layout: Layout, spools: Spools, known: FileIdentity | None, *, throttled: bool) -> Staged:
        """Write a temp file in the directory."""
        return stage(layout, spools, self.directory, known, throttled=throttled)

    def commit(
        self,
        staged: Sequence[Staged],
        manifest: Manifest,
        previous: Manifest | None,
        throttle: DiskThrottle | None,
    ) -> dict[str, FileIdentity]:
        """Rename the temp files, sync the directory, write the manifest."""
        return commit(staged, manifest, self.directory, previous, self._state / PUBLISHING, throttle)

    def discard(self, staged: Sequence[Staged]) -> None:
        """Unlink the remaining temp files."""
        discard(staged)

    def remove_others(self, patterns: Sequence[str], names: Collection[str]) -> None:
        """Unlink the files."""
        with disk_errors_explained(self.directory):
            remove_others(self.directory, patterns, names)

    def read_all(self, pattern: str) -> Iterator[bytes]:
        """Read the files."""
        for path in sorted(self.directory.glob(pattern)):
            if path.is_file() and not path.is_symlink():
                with suppress(OSError):
                    yield path.read_bytes()

    def small_files_differ(self, files: Iterable[tuple[str, bytes]]) -> bool:
        """Read each file."""
        return label_files.differs(self.directory, files)

    def write_small_files(self, files: Iterable[tuple[str, bytes]]) -> int:
        """Write each file, and sync the file system once."""
        mark = self._state / LABELLING
        written = label_files.write_changed(self.directory, files, lambda: replace_durably(mark, [], mode=0o600))
        if written:
            label_files.sync(self.directory)
        return written

    def retire_small_files(self, data_sets: Iterable[str] | None) -> None:
        """Compare the folders with their lists."""
        label_files.retire(self.directory, self._state, data_sets)

    def small_files_recorded(self) -> None:
        """Remove the mark."""
        (self._state / LABELLING).unlink(missing_ok=True)

    def small_files_open(self) -> bool:
        """Look for the mark."""
        return (self._state / LABELLING).exists()

    def link_images(self, data_set: str, root: str) -> None:
        """Make a symbolic link."""
        label_files.link_images(self.directory / data_set, root)

    def switched_off(self, written: Sequence[str]) -> list[str]:
        """Look for files with the names of other outputs."""
        return [name for name in file_names() if name not in written and (self.directory / name).exists()]

    def watch(self, lock: Lock) -> PublishedFilesWatch:
        """Watch by `lstat`."""
        return PublishedFilesWatch(self.directory, lock)


def check_room(directory: Path, needed_bytes: int) -> None:
    """Raise `PublishError` if the disk has no room for `needed_bytes` beside the old files."""
    free = shutil.disk_usage(directory).free
    if free < needed_bytes + _RESERVE_BYTES:
        raise PublishError(
            f"No room in {directory}: {(needed_bytes + _RESERVE_BYTES) / 1e6:,.0f} MB must be free, "
            f"{free / 1e6:,.0f} MB are.",
            hint="Free some space on that disk. The old files stay until then.",
        )


def commit(
    staged: Sequence[Staged],
    manifest: Manifest,
    directory: Path,
    previous: Manifest | None,
    mark: Path | None = None,
    throttle: DiskThrottle | None = None,
) -> dict[str, FileIdentity]:
    """Rename the staged files into place, then the manifest; returns the identities of the staged files.

    Raises `PublishError`. Files that were not renamed by then stay as they were, and no temp file is left.
    `mark` is a file that exists while the directory may hold files of this export that no manifest lists. It
    tells them from files of another program.
    """
    published = {}
    try:
        names = [item.layout.file_name for item in staged]
        keep_unknown(directory, [*names, MANIFEST_NAME], previous, mark)
        largest = sorted(staged, key=lambda item: item.size, reverse=True)[: _MOST_HELD if throttle is None else 0]
        with held_open(directory / item.layout.file_name for item in largest):
            for item in staged:
                published[item.layout.file_name] = _put_in_place(item, directory, throttle)
            for folder in sorted({directory, *_folders(directory, names)}, key=lambda path: -len(path.parts)):
                try:
                    fsync_directory(folder)
                except OSError as error:
                    raise explain_os_error(error, folder) from error
            _publish_manifest(manifest, directory / MANIFEST_NAME)
        if mark is not None:
            mark.unlink(missing_ok=True)
    finally:
        discard(staged)
    return published


def _put_in_place(item: Staged, directory: Path, throttle: DiskThrottle | None) -> FileIdentity:
    """Rename a staged file. Raises `PublishError`."""
    target = directory / item.layout.file_name
    try:
        _take_over_mode(item.temp, target)
        with throttle.replacing(target) if throttle is not None else nullcontext():
            os.replace(item.temp, target)
        return _identity(item, target)
    except OSError as error:
        raise explain_os_error(error, target) from error


def _folders(directory: Path, names: Sequence[str]) -> set[Path]:
    """The folders between the directory and these files."""
    folders = set()
    for name in names:
        for folder in Path(name).parents:
            folders.add(directory / folder)
    return folders


def remove_others(directory: Path, patterns: Sequence[str], names: Collection[str]) -> None:
    """Unlink the files that fit a pattern and are not named, then the folders that are empty. Raises `OSError`."""
    keep = {directory / name for name in names}
    for pattern in patterns:
        for path in directory.glob(pattern):
            if path not in keep and not path.is_dir():
                path.unlink()
    folders = {parent for pattern in patterns for parent in Path(pattern).parents} - {Path()}
    for parent in sorted(folders, key=lambda path: -len(path.parts)):
        for folder in directory.glob(str(parent)):
            with suppress(OSError):
                folder.rmdir()  # it is empty, or it stays


def _identity(item: Staged, target: Path) -> FileIdentity:
    """The identity of the file that was just renamed; one that fits no file if another program changed it."""
    now = FileIdentity.of(target, item.layout.crc)
    if (now.inode, now.size, now.mtime_ns) == (item.inode, item.size, item.mtime_ns):
        return now
    return replace(now, inode=item.inode, size=item.size, mtime_ns=item.mtime_ns, ctime_ns=0)


def discard(staged: Sequence[Staged]) -> None:
    """Remove the temp files that still exist."""
    for item in staged:
        with suppress(OSError):
            item.temp.unlink()


def _publish_manifest(manifest: Manifest, target: Path) -> None:
    replace_durably(target, [manifest.to_json()], before_rename=_take_over_mode)


def _take_over_mode(temp: Path, target: Path) -> None:
    """Give the temp file the mode of its target and, if permitted, the owner."""
    try:
        status = os.lstat(target)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        return
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        try:
            os.chown(temp, status.st_uid, status.st_gid)
        except PermissionError:
            with suppress(PermissionError):
                os.chown(temp, -1, status.st_gid)
    os.chmod(temp, stat.S_IMODE(status.st_mode))
