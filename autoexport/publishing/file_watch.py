"""Notices when another program changes the published files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from autoexport.errors import PublishError
from autoexport.formats import FILE_NAMES
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.locks import Lock
from autoexport.publishing.manifest import MANIFEST_NAME


class PublishedFilesWatch:
    """What may be taken from under the exporter: the published files, and the lock that makes it the leader."""

    def __init__(self, directory: Path, lock: Lock) -> None:
        self._paths = [directory / name for name in (*FILE_NAMES, MANIFEST_NAME)]
        self._lock = lock
        self._seen: list[tuple[int, int, int] | None] | None = None
        self._changing = False

    def begin_own_changes(self) -> None:
        """From here on the files may change by our own doing."""
        self._changing = True

    def end_own_changes(self, left: Mapping[str, FileIdentity] | None = None) -> None:
        """As the files are now, they are as we left them; blocking. `left` tells how we did leave them."""
        self._seen = [_stat(path) for path in self._paths]
        for place, path in enumerate(self._paths):
            if left is not None and (known := left.get(path.name)) is not None:
                self._seen[place] = known.inode, known.size, known.mtime_ns
        self._changing = False

    def tampered(self) -> bool:
        """Whether somebody else changed a published file since the last call; blocking.

        Raises `PublishError` if the state directory was removed: another process may lead by now.
        """
        if not self._lock.stands():
            raise PublishError(
                f"The directory {self._lock.path.parent} was removed or replaced.",
                hint="It is made again; leave it in place while the exporter runs.",
            )
        if self._changing:
            return False
        found = [_stat(path) for path in self._paths]
        tampered = self._seen is not None and found != self._seen
        self._seen = found
        return tampered


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
