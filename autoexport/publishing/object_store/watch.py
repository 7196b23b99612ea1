"""Notices when another program replaces the manifest in a store, or changes the local copies."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from autoexport.errors import PublishError
from autoexport.publishing.contract import Identities, TargetWatch
from autoexport.runtime.logs import get_logger

if TYPE_CHECKING:
    from autoexport.publishing.object_store.store import Version

EVERY_S = 1.0
"""The least time between two looks at the manifest, in seconds: each is a request."""

log = get_logger()


class ObjectWatch:
    """Watches the local copies and the version of the manifest; `TargetWatch` documents each method.

    `look` asks the store for the version. `last_seen` is the one that the last export saw or wrote.
    """

    def __init__(
        self, local: TargetWatch, look: Callable[[], Version | None], last_seen: Callable[[], str | None]
    ) -> None:
        self._local = local
        self._look = look
        self._last_seen = last_seen
        self._known: str | None = None
        self._began = self._changing = False
        self._looked_at = 0.0

    def begin_own_changes(self) -> None:
        """Ignore changes from now on."""
        self._changing = True
        self._local.begin_own_changes()

    def end_own_changes(self, left: Identities | None = None) -> None:
        """Report changes from now on, compared with the manifest that the export saw or wrote."""
        self._local.end_own_changes(left)
        self._known, self._began, self._changing = self._last_seen(), True, False

    def tampered(self) -> bool:
        """Whether another program changed a local file, or replaced or removed the manifest in the store.

        A store that does not answer is no change: the next export reports it.
        """
        tampered = self._local.tampered()
        if self._changing or not self._began or time.monotonic() - self._looked_at < EVERY_S:
            return tampered
        self._looked_at = time.monotonic()
        try:
            found = self._look()
        except PublishError as error:
            log.debug("store.not_seen", error=str(error))
            return tampered
        e_tag = found.e_tag if found is not None else None
        moved, self._known = e_tag != self._known, e_tag
        return tampered or moved
