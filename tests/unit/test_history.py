"""history.csv: its rows, and how they are thinned with age."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from autoexport.overview.history import HEADER, History, HistoryRow

NOW = datetime(2026, 3, 31, 12, 34, 56, tzinfo=UTC)


def row(generation: int, time: datetime) -> HistoryRow:
    return HistoryRow(generation, time, 1, 2, 30, 20, 10, 400, 5, 6, 7, 12, "incremental", 0.25)


def times(history: History) -> list[datetime]:
    return [item.timestamp for item in history.rows(1_000_000)]


def test_a_row_is_read_as_it_was_written() -> None:
    """Every field survives, and the header names the columns."""
    history = History()
    history.add(row(7, NOW))
    line = b'7,"2026-03-31 12:34:56Z",1,2,30,20,10,400,5,6,7,12,"incremental",0.250'
    assert history.text() == HEADER + b"\n" + line + b"\n"
    assert History(history.text()).rows(10) == [row(7, NOW)]


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"date,count\n2026-01-01,5\n", b"\xff\x00", HEADER[:-1] + b"\n1,2\n"]
)
def test_a_file_of_another_program_is_no_history(text: bytes) -> None:
    """It is not mixed with our rows."""
    history = History(text)
    history.add(row(1, NOW))
    assert history.rows(10) == [row(1, NOW)]


def test_damaged_rows_are_left_out() -> None:
    """The rows around them stay."""
    history = History()
    history.add(row(1, NOW))
    good = history.text()
    damaged = History(good + b"2,half a li\n" + b'3,"2026-99-99 12:34:56Z"' + b",1" * 10 + b',"full",1.0\n')
    assert damaged.rows(10) == [row(1, NOW)]


def test_rows_are_thinned_with_age() -> None:
    """All of the last day, the last of each hour for 30 days, the last of each day before."""
    draw = random.Random(23)
    history, every = History(), []
    time = NOW - timedelta(days=80)
    while time <= NOW:
        history = History(history.text())
        history.add(row(len(every) + 1, time))
        every.append(time)
        time += timedelta(seconds=draw.randint(60, 6_000))
    now, kept = every[-1], times(history)
    day, month = now - timedelta(days=1), now - timedelta(days=30)
    hours = {time.replace(minute=0, second=0): time for time in every if time <= day}
    days = {time.date(): time for time in every if time <= month}
    expected = (
        set(days.values()) | {time for time in hours.values() if time > month} | {t for t in every if t > day}
    )
    # A bucket that is cut by a boundary may keep one row more, of the time before it was cut.
    assert expected <= set(kept)
    assert len(kept) <= len(expected) + 2
    assert kept == sorted(kept)


def test_the_file_stays_small() -> None:
    """Ten years of a publish each hour are less than half a megabyte."""
    history = History()
    for hour in range(0, 24 * 365 * 10, 24):
        for minute in (0, 30):
            history.add(row(hour + minute, NOW + timedelta(hours=hour, minutes=minute)))
    assert len(history.text()) < 500_000


def test_a_row_of_a_killed_exporter_is_replaced() -> None:
    """It renamed the file and no manifest: the next publish has the same generation."""
    history = History()
    for generation in (1, 2, 2):
        history = History(history.text())
        history.add(row(generation, NOW + timedelta(seconds=generation)))
    assert [item.generation for item in history.rows(10)] == [1, 2]


def test_a_lost_generation_keeps_the_rows() -> None:
    """Without manifest and ledger, the generations begin again, and the history goes on."""
    history = History()
    for index, generation in enumerate((57, 58, 1, 2)):
        history.add(row(generation, NOW + timedelta(seconds=index)))
    assert [item.generation for item in history.rows(10)] == [57, 58, 1, 2]


def test_the_last_row_before_a_time() -> None:
    """The change since yesterday is that to the last row that is a day old."""
    history = History()
    for hours in (50, 30, 20, 0):
        history.add(row(100 - hours, NOW - timedelta(hours=hours)))
    before = history.before(NOW - timedelta(days=1))
    assert before is not None
    assert before.generation == 70
    assert history.before(NOW - timedelta(days=7)) is None
    first = history.first()
    assert first is not None
    assert first.generation == 50


@pytest.mark.parametrize("count", [1, 2, 7, 400, 401, 5_000])
def test_a_choice_of_rows_has_both_ends(count: int) -> None:
    """The curve begins and ends where the history does."""
    history = History()
    for second in range(count):
        history.add(row(second, NOW + timedelta(seconds=second)))
    chosen = [item.generation for item in history.rows(400)]
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert len(chosen) <= 402
    assert chosen == sorted(set(chosen))
