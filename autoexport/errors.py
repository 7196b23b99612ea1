"""The errors of the program; each says what is wrong and carries a hint that says what to do."""

from __future__ import annotations


class AutoexportError(Exception):
    """Something that an operator can understand and mend.

    `hint` is the sentence that says what to do; `exit_code` is what the command line exits with.
    The driver's own error, where there is one, is the `__cause__`.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigurationError(AutoexportError):
    """A flag, a setting, a URL or the mapping is wrong; trying again cannot help."""

    exit_code = 2


class MappingError(ConfigurationError):
    """The tables of the database cannot be understood without being told more."""


class EmptyDatabase(MappingError):
    """There are no tables at all: the application has not started yet, perhaps. A daemon waits for them."""


class SourceError(AutoexportError):
    """The database cannot be opened or read now."""


class MappedTableGone(SourceError):
    """A table that was exported before is no longer there: the old files stay."""


class UndecodableText(SourceError):
    """A text value is not valid UTF-8; the snapshot has to be read again leniently."""


class PublishError(AutoexportError):
    """The export directory cannot be written to; the old files stay."""


class RenderError(AutoexportError):
    """The rows that were read could not be rendered; the old files stay."""


class LockedError(AutoexportError):
    """Another exporter holds the lock of this export directory."""


class EncoderChanged(AutoexportError):
    """Another version of an encoder wrote the files: `verify` cannot tell its differences from drift."""


class DriftError(AutoexportError):
    """`verify` found that the files and the database differ."""

    exit_code = 3
