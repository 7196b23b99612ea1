"""Notices when another program changes the published files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from autoexport.errors import PublishError
from autoexport.formats import file_names
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.locks import Lock
from autoexport.publishing.manifest import BESIDE_NAMES, MANIFEST_NAME


class PublishedFilesWatch:
    """Watches the published files and the lock of the leader; `TargetWatch` documents each method."""

    def __init__(self, directory: Path, lock: Lock) -> None:
        self._directory = directory
        self._paths = [directory / name for name in (*file_names(), MANIFEST_NAME)]
        # Only their absence matters: no export depends on their contents.
        self._beside = [directory / name for name in BESIDE_NAMES]
        self._lock = lock
        self._seen: list[tuple[int, int, int] | None] | None = None
        self._there: list[bool] = []
        self._changing = False

    def begin_own_changes(self) -> None:
        """Ignore changes from now on: this exporter may change the files itself."""
        self._changing = True

    def end_own_changes(self, left: Mapping[str, FileIdentity] | None = None) -> None:
        """Report changes from now on, compared with `left`, or else with the files as they are; blocking."""
        for name in left or ():
            if (path := self._directory / name) not in self._paths:
                self._paths.append(path)
        self._seen = [_stat(path) for path in self._paths]
        self._there = self._existing()
        for index, path in enumerate(self._paths):
            if left is not None and (known := left.get(path.relative_to(self._directory).as_posix())) is not None:
                self._seen[index] = known.inode, known.size, known.mtime_ns
        self._changing = False

    def tampered(self) -> bool:
        """Whether another program changed a published file since the last call; blocking.

        Raises `PublishError` if the state directory was removed, because another process may lead by now.
        """
        if not self._lock.stands():
            raise PublishError(
                f"The directory {self._lock.path.parent} was removed or replaced.",
                hint="The exporter makes it again. Leave it in place while the exporter runs.",
            )
        if self._changing:
            return False
        found = [_stat(path) for path in self._paths]
        there = self._existing()
        tampered = self._seen is not None and (found != self._seen or there != self._there)
        self._seen, self._there = found, there
        return tampered

    def _existing(self) -> list[bool]:
        return [_stat(path) is not None for path in self._beside]


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
