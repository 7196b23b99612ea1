"""How long a test waits before it gives up: seconds on the reference machine, times the slowness of this one.

A deadline only ends a hang. No test proves anything with it, so it may be far too long but never too short.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable

# Wall time of each part of the measurement on the reference machine: two idle cores, Python 3.11, a fast disk.
_WORK_S, _START_S, _DISK_S = 0.035, 0.012, 0.006

_FRESH_S = 15.0
"""How long a measurement is used. Other work on the machine comes and goes while the tests run."""

_MOST = 40.0
"""The largest slowness that is believed. A machine that was suspended measures as slower still."""

_PYTHON = sys.executable
"""The interpreter, read before any test replaces `sys.executable`."""

_recent: deque[float] = deque(maxlen=4)
"""The last measurements. The largest counts, because any one may have met a quiet moment."""

_measured_at = -math.inf


def deadline_s(seconds: float) -> float:
    """The limit in seconds on this machine, for one in seconds on the reference machine; never shorter."""
    return seconds * slowness()


def slowness() -> float:
    """How many times longer work takes now than on the reference machine; at least 1.0.

    Measures again when the last measurement is old, which blocks for a tenth of a second or, under load, longer.
    """
    global _measured_at
    if time.monotonic() - _measured_at > _FRESH_S:
        _recent.append(_measure())
        _measured_at = time.monotonic()
    return max(_recent)


def _measure() -> float:
    """The worst of three ratios: computing, starting a process, and writing to the disk.

    Wall time is measured, so that other work, a quota and a busy host count as well.
    """
    ratios = (_seconds(_work) / _WORK_S, _seconds(_start) / _START_S, _seconds(_write) / _DISK_S)
    return min(max(1.0, *ratios), _MOST)


def _seconds(part: Callable[[], object]) -> float:
    began = time.monotonic()
    part()
    return time.monotonic() - began


def _work() -> int:
    total = 0
    for number in range(900_000):  # Longer than a time slice of the scheduler.
        total += number * number % 7
    return total


def _start() -> None:
    subprocess.run([_PYTHON, "-I", "-S", "-c", ""], stdin=subprocess.DEVNULL, check=True)


def _write() -> None:
    with tempfile.TemporaryFile() as file:
        for _ in range(4):
            os.write(file.fileno(), bytes(4096))
            os.fsync(file.fileno())
