"""Records the facts of a publish that the page shows beside the survey."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from autoexport.model.blocks import Counts


@dataclass(frozen=True, slots=True)
class PageFacts:
    """The facts of a publish that the page shows beside the survey.

    `files` has the size in bytes and the number of rows of each file; the rows are None if they are not counted.
    `orphans` are the rows without a parent by logical table.
    """

    database: str
    generation: int
    timestamp: datetime
    mode: str
    seconds: float
    counts: Counts
    labels: int
    files: Mapping[str, tuple[int, int | None]]
    orphans: Mapping[str, int]
    soft_deleted: Mapping[str, int]
