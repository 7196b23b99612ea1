"""progress.jsonl: the states of projects and datasets, and how they are thinned with age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from autoexport.overview.progress_log import ProgressLog, key_of

NOW = datetime(2026, 3, 31, 12, 30, tzinfo=UTC)
PROJECT, DATASET = key_of(1), key_of(1, 'a,"b"\n')


def test_a_state_is_kept_only_if_it_differs() -> None:
    """The file can be read again, whatever the ids are; other lines are dropped."""
    log = ProgressLog(b'{"time":"yesterday"}\nnot JSON\n')
    for minute in (0, 1, 2):
        log.add(NOW + timedelta(minutes=minute), [(PROJECT, 10, 3), (DATASET, 4, minute // 2)])
    text = log.text()
    assert len(text.splitlines()) == 2, "the last state of an hour"
    again = ProgressLog(text)
    assert again.text() == text
    assert again.labeled_at(DATASET, NOW + timedelta(hours=1)) == 1
    assert again.labeled_at(PROJECT, NOW - timedelta(seconds=1)) is None
    assert again.covers(NOW)
    assert not again.covers(NOW - timedelta(seconds=1))


def test_long_ids_are_not_recorded() -> None:
    """The file stays small."""
    log = ProgressLog()
    log.add(NOW, [(key_of("x" * 1_000), 1, 1)])
    assert log.text() == b""


def test_what_is_shown_no_longer_goes_after_eight_days() -> None:
    """A project that is there stays, however old its last state is."""
    log = ProgressLog()
    log.add(NOW, [(PROJECT, 10, 3), (DATASET, 4, 1)])
    log.add(NOW + timedelta(days=7), [(PROJECT, 10, 3)])
    assert log.labeled_at(DATASET, NOW + timedelta(days=7)) == 1
    log.add(NOW + timedelta(days=9), [(PROJECT, 10, 3)])
    assert log.labeled_at(DATASET, NOW + timedelta(days=9)) is None
    assert log.labeled_at(PROJECT, NOW + timedelta(days=9)) == 3


@given(st.lists(st.integers(1, 4_000), min_size=1, max_size=300), st.sampled_from([1, 7]))
def test_a_change_since_then_is_known_to_the_hour(minutes: list[int], days: int) -> None:
    """A day ago to the hour, a week ago to the day; and no key has more than 34 states."""
    log, states, now = ProgressLog(), [], NOW
    for labeled, step in enumerate(minutes):
        now += timedelta(minutes=step)
        log.add(now, [(PROJECT, 1_000, labeled)])
        states.append((now, labeled))
    assert len(log.text().splitlines()) <= 34
    wanted = now - timedelta(days=days)
    slack = timedelta(hours=1) if days == 1 else timedelta(days=1)
    told = log.labeled_at(PROJECT, wanted)
    before = [labeled for time, labeled in states if time <= wanted]
    early = [labeled for time, labeled in states if time <= wanted - slack]
    assert (
        told is None
        if not before
        else (early[-1] if early else -1) <= (-1 if told is None else told) <= before[-1]
    )
    assert told is not None or not early
