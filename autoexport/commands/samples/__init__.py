"""The registry of samples for `demo --application`: one line here and one file beside this one for each."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Protocol

Row = tuple[str, tuple[object, ...]]
"""A table, and the values of one row in the order of its columns."""

SAMPLES = {
    "doccano": "autoexport.commands.samples.doccano",
    "label_studio": "autoexport.commands.samples.label_studio",
}
"""The module of each application's sample."""


ON_A_SERVER = {"cvat": "CVAT"}
"""Applications that a preset maps and that have no sample: they keep their data in PostgreSQL alone."""


class Sample(Protocol):
    """A module with a sample: the statements of its schema, and its rows, which are always the same."""

    SCHEMA: str

    @staticmethod
    def rows() -> Iterator[Row]:
        """Yield the rows, parents first."""
        ...


def sample_of(application: str) -> Sample:
    """The sample of this application. Raises KeyError if there is none."""
    found: Sample = import_module(SAMPLES[application])  # type: ignore[assignment]
    return found
