"""Notes of `check` about a SQLite file: size, journal mode, and how long a copy keeps a writer waiting."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from autoexport.config.database_url import file_uri
from autoexport.sources.sqlite.errors import explain

COPY_S_PER_GB = 0.5
"""How long a copy takes. Measured: 0.3 to 0.4 s per GB, and 1.7 s on a virtual machine whose host had to provide
the memory first."""

_WORTH_S = 0.1
"""A shorter wait is not worth a note."""


def check_notes(path: Path, computed_by_application: Sequence[str] = ()) -> list[str]:
    """Sentences about journal mode, size and these columns; blocking.

    Raises `SourceError` if the file cannot be opened.

    Call it after a snapshot was taken: taking it proves that opening the file does no harm.
    """
    try:
        uri = f"{file_uri(path)}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        size_bytes = path.stat().st_size
    except (sqlite3.Error, OSError) as exc:
        raise explain(exc, path, path.parent) from exc
    seconds = size_bytes / 1e9 * COPY_S_PER_GB
    size = f"{size_bytes / 1e6:,.1f} MB"
    notes = [
        f"{column} is computed by a function that only the application has: it counts as missing."
        for column in computed_by_application
    ]
    if mode == "wal":
        takes = f" for the copy, which takes about {seconds:.1f} s" if seconds >= _WORTH_S else ""
        return [*notes, f"{size} in WAL mode: writers never wait{takes}."]
    if seconds < _WORTH_S:
        return [*notes, f"{size} in rollback-journal mode ({mode})."]
    return [
        *notes,
        f"{size} in rollback-journal mode ({mode}): while the copy is made, a writer may have to wait about "
        f"{seconds:.1f} s (about {COPY_S_PER_GB} s per GB). If that is too long, change the database to WAL mode, "
        "where writers never wait, or to PostgreSQL.",
    ]
