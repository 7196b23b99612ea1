"""Puts the priority of each line before it, if standard error is systemd's journal."""

from __future__ import annotations

import os
import sys

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""The priorities of syslog(3), which systemd reads from the begin of a line (sd-daemon(3))."""


def stderr_is_journal() -> bool:
    """Whether standard error goes to the journal, which systemd names in JOURNAL_STREAM (systemd.exec(5))."""
    try:
        device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
        status = os.fstat(sys.stderr.fileno())
        return (status.st_dev, status.st_ino) == (int(device), int(inode))
    except (OSError, ValueError, AttributeError):
        return False


def with_priority(text: str, level: str) -> str:
    """The text with a priority before each line, for the journal."""
    return "\n".join(f"<{PRIORITIES.get(level, 6)}>{line}" for line in text.split("\n"))
