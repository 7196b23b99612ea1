"""Keeps progress.jsonl: how many images of each project and dataset were labelled, for the changes on the page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from autoexport.values.scalars import encode

PROGRESS_NAME = "progress.jsonl"
BEGINNING = b'{"time":"'
"""The first bytes of each line."""

_LINE = re.compile(
    rb'\{"time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)","images":(\d{1,18}),"labeled_images":(\d{1,18}),("project":.+)\}'
)
_HOURLY, _DAILY = timedelta(hours=25), timedelta(days=8)
_LONGEST_KEY = 300
"""Projects and datasets with longer ids are not recorded, so that the file stays small."""

Key = bytes
State = tuple[bytes, int, int]
"""A time (UTC, in seconds), and how many images there were then, and how many labelled ones."""


def key_of(project: Any, dataset: Any = None) -> Key:
    """The key of a dataset, or of the project as a whole, by the published ids."""
    return b'"project":%b,"dataset":%b' % (encode(project), encode(dataset))


class ProgressLog:
    """The states of projects and datasets, oldest first. Lines that this program did not write are left out.

    A state is kept only if its numbers are others than before: of the last day the last one in each hour, of eight
    days the last one in each day, and one from before. So a project or a dataset has at most 34 lines.
    """

    def __init__(self, text: bytes = b"") -> None:
        self._states: dict[Key, list[State]] = {}
        for line in text.split(b"\n"):
            found = _LINE.fullmatch(line)
            if found is not None:
                time, images, labeled, key = found.groups()
                self._states.setdefault(key, []).append((time, int(images), int(labeled)))

    def add(self, now: datetime, rows: Iterable[tuple[Key, int, int]]) -> None:
        """Add the numbers of images and of labelled ones of these keys, and thin out the older states.

        Keys that are not among them go once their last state is eight days old.
        """
        time, shown = _stamp(now), set()
        for key, images, labeled in rows:
            if len(key) > _LONGEST_KEY:
                continue
            shown.add(key)
            states = self._states.setdefault(key, [])
            if not states or states[-1][1:] != (images, labeled):
                states.append((time, images, labeled))
        hourly, daily = _stamp(now - _HOURLY), _stamp(now - _DAILY)
        self._states = {
            key: _thinned(states, hourly, daily)
            for key, states in self._states.items()
            if key in shown or states[-1][0] > daily
        }

    def text(self) -> bytes:
        """The bytes of the file."""
        return b"".join(
            b'{"time":"%b","images":%d,"labeled_images":%d,%b}\n' % (*state, key)
            for key, states in self._states.items()
            for state in states
        )

    def covers(self, time: datetime) -> bool:
        """Whether anything is known of this time."""
        stamp = _stamp(time)
        return any(states[0][0] <= stamp for states in self._states.values())

    def labeled_at(self, key: Key, time: datetime) -> int | None:
        """The number of labelled images at this time, to the hour; None if it is not known."""
        stamp = _stamp(time)
        return next((labeled for at, _, labeled in reversed(self._states.get(key, ())) if at <= stamp), None)


def _thinned(states: list[State], hourly: bytes, daily: bytes) -> list[State]:
    kept: list[State] = []
    last = b""
    for state in states:
        time = state[0]
        bucket = time[:13] if time > hourly else time[:10] if time > daily else b"before"
        if bucket == last:
            kept[-1] = state
        else:
            kept.append(state)
        last = bucket
    return kept


def _stamp(time: datetime) -> bytes:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
