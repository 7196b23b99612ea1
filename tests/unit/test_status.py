"""What `status` makes of a report and a manifest that need not be of the same exporter."""

from __future__ import annotations

import pytest

from autoexport.commands.status import StatusFindings
from autoexport.daemon.report import Report
from autoexport.publishing.manifest import Manifest

CHANGED_AT = 1_705_746_600.5  # 2024-01-20T10:30:00.5Z


@pytest.mark.parametrize(
    ("read_at", "running", "told"),
    [
        ("2024-01-20T10:30:01Z", False, None),
        ("2024-01-20T10:30:00Z", False, CHANGED_AT),  # whole seconds: it may have been read before
        ("2024-01-20T10:30:01Z", True, CHANGED_AT),  # who is running knows better
        ("yesterday", False, CHANGED_AT),
        (None, False, CHANGED_AT),
    ],
)
def test_a_change_that_another_exporter_published(read_at: str | None, running: bool, told: float | None) -> None:
    """It is told by an exporter that was killed, and is in the files all the same."""
    report = Report(1, "watching", 5.0, CHANGED_AT, oldest_change_at=CHANGED_AT)
    manifest = None if read_at is None else Manifest(1, read_at, "app.db", {})
    assert StatusFindings(CHANGED_AT + 9, running, running, report, manifest).oldest_change_at == told
