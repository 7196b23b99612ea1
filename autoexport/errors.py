"""Defines the errors of the program: a message, a hint for the operator and an exit code."""

from __future__ import annotations


class AutoexportError(Exception):
    """An error that an operator can understand and correct.

    The message names the problem and `hint` the remedy. `exit_code` is the exit code of the command line.
    `__cause__` is the error of the database driver, if it raised one.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigurationError(AutoexportError):
    """A flag, a setting, a URL or the mapping is wrong; retrying cannot help."""

    exit_code = 2


class NoDatabaseNamed(ConfigurationError):
    """No flag, setting or file names a database."""


class ForeignExport(ConfigurationError):
    """The export directory or the ledger belongs to another database."""


class MappingError(ConfigurationError):
    """The tables cannot be mapped without more configuration."""


class AnnotationsLeftOut(MappingError):
    """A table that looks like annotations has rows and is not mapped: an export would lose them."""


class EmptyDatabase(MappingError):
    """The database has no tables, perhaps because the application has not started yet. A daemon waits for them."""


class SourceError(AutoexportError):
    """The database cannot be opened or read at present."""


class DatabaseAway(SourceError):
    """The server of the database cannot be reached at present, or closes connections."""


class SnapshotGone(SourceError):
    """The process that held an exported snapshot has ended, so no other can open it."""


class MappedTableGone(SourceError):
    """A table of the last export no longer exists; the published files remain."""


class UndecodableText(SourceError):
    """A text value is not valid UTF-8; the reader must read the snapshot again leniently."""


class PublishError(AutoexportError):
    """The export directory is not writable; the published files remain."""


class RenderError(AutoexportError):
    """The rows could not be rendered; the published files remain."""


class LockedError(AutoexportError):
    """Another exporter holds the lock of the export directory."""


class LostRace(LockedError):
    """Another exporter published to the same place first; its files are there, whole."""


class EncoderChanged(AutoexportError):
    """Another version of an encoder wrote the files: `verify` cannot tell its differences from drift."""
