"""Turns SQLite's errors into ours: each says what happened, with a hint what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from autoexport.errors import SourceError

# Extended result codes: https://www.sqlite.org/rescode.html
_HINTS = {
    sqlite3.SQLITE_NOTADB: (
        "{path} is not a SQLite database.",
        "Check the path; an encrypted database cannot be read.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "{path} is damaged: {error}.",
        "Run `PRAGMA integrity_check` on a copy and restore the file from a backup.",
    ),
    sqlite3.SQLITE_BUSY: (
        "{path} stayed locked by another program.",
        "The application holds a transaction open. Export again when that has ended; a daemon does so by itself.",
    ),
    sqlite3.SQLITE_FULL: (
        "No room for the working copy of {path}.",
        "Free some space on the disk of {private}, or set DB_EXPORT_STATE_DIRECTORY to another disk.",
    ),
    sqlite3.SQLITE_READONLY: (
        "{path} is in WAL mode, and there is no permission to write to its folder.",
        "Let this user write to the folder (systemd: ReadWritePaths=), or keep the application open beside it.",
    ),
    sqlite3.SQLITE_READONLY_ROLLBACK: (
        "{path} was left in the middle of a transaction, and only a writer may repair it.",
        "Open it once with the application, which then rolls back the unfinished transaction.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "{path} cannot be opened.",
        "A WAL database needs write permission on its folder, or the application running beside it.",
    ),
    sqlite3.SQLITE_IOERR: ("Reading {path} failed: {error}.", "Check the disk and the mount it is on."),
    sqlite3.SQLITE_PERM: ("No permission to read {path}.", "Let this user read the file and its folder."),
}


def explain(error: BaseException, path: Path, private: Path) -> SourceError:
    """Turn an error of the driver into ours.

    `path` is the application's file, `private` the directory of the copies.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and "is locked" in str(error):
        code = sqlite3.SQLITE_BUSY
    if str(error).startswith("no such collation sequence"):
        return SourceError(
            f"{path} has columns that only its application can compare: {error}.",
            hint="Map the keys to columns without that collation under [tables] in autoexport.toml.",
        )
    if str(error).startswith(("no such function", "unknown function", "unsafe use of")):
        return SourceError(
            f"{path} has values that only its application can compute: {error}.",
            hint="Leave the view or the column out under [tables] in autoexport.toml: table = false, or, under "
            "columns, <field> = false.",
        )
    return _error_for(code or 0, path, private, error)


def no_room(path: Path, private: Path) -> SourceError:
    """The error if the disk has no room for the working copy."""
    return _error_for(sqlite3.SQLITE_FULL, path, private)


def too_slow(path: Path, private: Path) -> SourceError:
    """The error if the database changes faster than it can be copied."""
    return SourceError(
        f"{path} changes faster than it can be copied to {private}.",
        hint="Set DB_EXPORT_STATE_DIRECTORY to a directory on a faster disk.",
    )


def _error_for(code: int, path: Path, private: Path, error: object = "") -> SourceError:
    message, hint = _HINTS.get(code) or _HINTS.get(
        code & 0xFF, ("Reading {path} failed: {error}.", "Check the file with `PRAGMA integrity_check`.")
    )
    words = {"path": path, "private": private, "error": error}
    return SourceError(message.format(**words), hint=hint.format(**words))
