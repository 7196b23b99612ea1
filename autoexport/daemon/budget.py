"""Budgets the work of the exports: a share of a core over ten minutes, of which quiet time saves a part."""

from __future__ import annotations

import time
from collections.abc import Callable

PERIOD_S = 600.0
SAVED_SHARE = 0.25
"""The part of the budget of one period that can be saved. The rest of it flows in steadily. Together they are
never more than the budget of any ten minutes."""


class Budget:
    """Says when the next export may begin. `pace` is the share of a core that exports may use over ten minutes.

    Quiet time is saved and spent at once: if little was spent lately, an export begins without delay. The more of
    the savings is spent, the longer the rest after an export, up to the rest that the pace itself would take. So
    the exports of a database that changes all the time are spread, and most of its commits meet none.

    The next export is expected to cost as much as the last one. A full export says little about the next one,
    unless the export before it was full as well. The first full one is left out: it is work that is due once.
    """

    def __init__(self, pace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._most_s = pace * PERIOD_S * SAVED_SHARE
        self._per_s = pace * (1 - SAVED_SHARE)
        self._rest_per_work = max(0.0, 1 / pace - 1)
        self._saved_s, self._counted_at = self._most_s, clock()
        self._rest_until = clock()
        self._expected_s = 0.0
        self._first = True
        self._last_was_full = False

    def delay_s(self) -> float:
        """Seconds until the next export may begin; 0 if it may begin now."""
        lacking_s = min(self._expected_s, self._most_s) - self._saved()
        return max(0.0, lacking_s / self._per_s, self._rest_until - self._clock())

    def spend(self, work_s: float, *, full: bool) -> None:
        """Count an export that kept a core busy for `work_s` seconds."""
        if full and self._first:
            self._first = False
            return
        self._first = False
        self._saved_s = self._saved() - work_s
        spent_share = min(1.0, 1 - self._saved_s / self._most_s)
        self._rest_until = self._clock() + spent_share * self._rest_per_work * work_s
        if not full or self._last_was_full:
            # An export that found nothing to publish was cheaper than the next one may be.
            self._expected_s = max(work_s, (self._expected_s + work_s) / 2)
        self._last_was_full = full

    def fail(self, work_s: float) -> None:
        """Count the work of an export that failed, which says nothing about the next one."""
        self._saved_s = self._saved() - work_s

    def _saved(self) -> float:
        now = self._clock()
        self._saved_s = min(self._most_s, self._saved_s + self._per_s * (now - self._counted_at))
        self._counted_at = now
        return self._saved_s
