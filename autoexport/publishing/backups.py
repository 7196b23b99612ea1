"""Backs up files that stand in the way and are not of this exporter, before they are replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from autoexport.formats.training.classes import CLASSES_NAME
from autoexport.publishing.manifest import MANIFEST_NAME, Manifest
from autoexport.runtime.files import explain_os_error, replace_durably, temp_beside

BACKUP_SUFFIX = ".before-autoexport"


def keep_unknown(
    directory: Path, names: Sequence[str], previous: Manifest | None, mark: Path | None = None
) -> None:
    """Back up each file in the way that no manifest lists, once. The earlier exporter may have written it.

    Raises `PublishError`.
    """
    known = {*previous.files, *previous.beside, MANIFEST_NAME} if previous is not None else set()
    unknown = [directory / name for name in names if name not in known and not name.endswith(f"/{CLASSES_NAME}")]
    if not unknown or (mark is not None and mark.exists()):
        return
    for target in unknown:
        backup = target.with_name(target.name + BACKUP_SUFFIX)
        try:
            if target.is_file() and not target.is_symlink() and not os.path.lexists(backup):
                _keep(target, backup)
        except OSError as error:
            raise explain_os_error(error, backup) from error
    if mark is not None:
        replace_durably(mark, [], mode=0o600)


def _keep(target: Path, backup: Path) -> None:
    try:
        os.link(target, backup)
    except OSError:
        # The file system has no hard links. A rename makes the copy appear whole.
        copy = temp_beside(backup)
        try:
            shutil.copy2(target, copy)
            os.replace(copy, backup)
        finally:
            copy.unlink(missing_ok=True)
