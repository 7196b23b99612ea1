"""The budget of the exports: what is saved is spent at once, and no ten minutes cost more than their share."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.daemon.budget import PERIOD_S, SAVED_SHARE, Budget
from autoexport.daemon.health import Health
from autoexport.daemon.schedule import PACED, ExportSchedule, Work, export_forever
from autoexport.runtime.waits import counting_waits, spared, turn, waited, waiting
from tests.daemon import LIMIT_S
from tests.deadlines import deadline_s

PACE = 0.1
SETTLING_S = 2.0


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Days:
    """A daemon in the time of a clock: the moments at which its exports began, and their work."""

    def __init__(self, pace: float = PACE) -> None:
        self.clock = Clock()
        self.budget = Budget(pace, self.clock)
        self.exports: list[tuple[float, float]] = []

    def export(self, work_s: float, *, full: bool = False) -> float:
        """Export as soon as the budget allows it; the seconds of waiting."""
        waited_s = self.budget.delay_s()
        self.clock.now += waited_s
        assert self.budget.delay_s() < 1e-6
        self.exports.append((self.clock.now, work_s))
        self.clock.now += work_s
        self.budget.spend(work_s, full=full)
        return waited_s

    def most_in_a_period(self) -> float:
        """The most work of any ten minutes."""
        return max(
            sum(work_s for at, work_s in self.exports if began <= at < began + PERIOD_S)
            for began, _ in self.exports
        )


def test_the_first_change_after_a_full_export_waits_for_nothing() -> None:
    """However long the full export took: it is due once, and says nothing about the next one."""
    days = Days()
    assert days.export(1000.0, full=True) == 0
    assert days.export(2.0) == 0


@pytest.mark.parametrize("work_s", [0.1, 1.0, 2.0])
def test_isolated_changes_wait_for_nothing(work_s: float) -> None:
    """Ten changes, 30 s apart, each begin at once."""
    days = Days()
    days.export(12.0, full=True)
    for _ in range(10):
        days.clock.now += 30 - work_s
        assert days.export(work_s) == 0


@given(
    works=st.lists(st.floats(0.05, 5.0), min_size=1, max_size=20),
    quiet_s=st.lists(st.floats(0.0, 900.0), min_size=1, max_size=5),
    pace=st.floats(0.02, 1.0),
)
def test_no_ten_minutes_cost_more_than_their_share(works: list[float], quiet_s: list[float], pace: float) -> None:
    """Whenever changes come and whatever exports cost, but for one export that cost more than was expected."""
    days = Days(pace)
    for quiet in quiet_s:
        days.clock.now += quiet
        for work_s in works * 3:
            days.clock.now += SETTLING_S
            days.export(work_s)
    assert days.most_in_a_period() <= pace * PERIOD_S + max(works) + 1e-6


def test_a_database_that_changes_all_the_time_gets_its_whole_share() -> None:
    """Over hours the exports use what flows in, and are spread evenly."""
    days = Days()
    while days.clock.now < 1000 + 10 * PERIOD_S:
        days.clock.now += SETTLING_S
        days.export(1.0)
    late = [at for at, _ in days.exports if at > 1000 + 5 * PERIOD_S]
    expected_s = 1.0 / (PACE * (1 - SAVED_SHARE))
    gaps = [later - earlier for earlier, later in pairwise(late)]
    assert min(gaps) == pytest.approx(expected_s, rel=0.1) == pytest.approx(max(gaps), rel=0.1)


def test_the_rests_grow_with_what_was_spent() -> None:
    """Changes that keep coming do not spend all savings in a row: an application would meet many exports."""
    days = Days()
    waits = []
    for _ in range(15):
        days.clock.now += SETTLING_S
        waits.append(days.export(1.0))
    assert waits[:2] == [0, 0]
    assert waits == sorted(waits)
    assert waits[-1] > 3


def test_exports_that_are_always_full_are_paced_by_their_cost() -> None:
    """A view can only be exported whole: from the second one on, that is what the next one is expected to cost."""
    days = Days()
    for _ in range(40):
        days.export(10.0, full=True)
    began = [at for at, _ in days.exports]
    assert began[-1] - began[-2] == pytest.approx(10.0 / (PACE * (1 - SAVED_SHARE)), rel=0.1)


def test_an_export_that_costs_more_than_can_be_saved() -> None:
    """It begins when all savings are there, and is paid for before the next one."""
    days = Days()
    work_s = 2 * PACE * PERIOD_S
    days.export(work_s)
    assert days.export(work_s) == pytest.approx(work_s / (PACE * (1 - SAVED_SHARE)), rel=0.1)


async def test_the_schedule_says_until_when_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has the time and the reason while an export waits; a request of the owner ends the wait."""
    clock = Clock()
    budget, health = Budget(PACE, clock), Health(1.0, clock=clock)
    schedule = ExportSchedule(budget, health, clock)
    budget.fail(100.0)
    paced = asyncio.create_task(schedule.wait_for_budget())
    async with asyncio.timeout(deadline_s(LIMIT_S)):
        while health.report.next_export_at is None:
            await asyncio.sleep(0)
        assert health.report.waits_for == PACED
        assert health.report.next_export_at == pytest.approx(clock.now + budget.delay_s())
        schedule.export_soon.set()
        await paced
    assert not schedule.export_soon.is_set()
    health.export_began()
    assert (health.report.waits_for, health.report.next_export_at) == (None, None)


# --- waiting is no work ------------------------------------------------------------------------------


async def test_waits_of_tasks_and_threads_count() -> None:
    """Also those in tasks and threads that the work began, and none outside of it."""
    lock = asyncio.Lock()

    async def elsewhere() -> None:
        await asyncio.to_thread(waited, 2.0)

    with counting_waits() as waits:
        async with turn(lock):
            pass
        await asyncio.create_task(elsewhere())
        began = time.monotonic()
        with waiting():
            threading.Event().wait(0.05)
        took_s = time.monotonic() - began
    waited(7.0)
    assert 2.05 <= waits.seconds <= 2.0 + took_s + 0.05


async def test_other_programs_make_no_export_expensive() -> None:
    """On a machine with much else to do an export takes long and uses little. A server's work is its duration."""
    worked_s = []
    for in_process in (True, False):
        queue: asyncio.Queue[None] = asyncio.Queue()
        budget = Budget(PACE)
        spent: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        budget.spend = lambda work_s, full, spent=spent: spent.set_result(work_s)  # type: ignore[method-assign, misc]

        async def export(in_process: bool = in_process) -> Work:
            await asyncio.to_thread(threading.Event().wait, 2 * deadline_s(0.2))
            spared(0.01)
            return Work(in_process=in_process)

        queue.put_nowait(None)
        schedule = ExportSchedule(budget)
        schedule.export_soon.set()
        task = asyncio.create_task(export_forever(queue, export, schedule))
        async with asyncio.timeout(deadline_s(LIMIT_S)):
            worked_s.append(await spent)
        task.cancel()
        await asyncio.wait({task})
    assert 0.01 <= worked_s[0] < worked_s[1] / 2


async def test_an_export_that_waited_is_cheap() -> None:
    """An hour of waiting for a connection does not delay the next export."""
    queue: asyncio.Queue[None] = asyncio.Queue()
    budget = Budget(PACE)
    schedule = ExportSchedule(budget)
    done = asyncio.Event()

    async def export() -> Work:
        waited(3600.0)
        done.set()
        return Work()

    queue.put_nowait(None)
    schedule.export_soon.set()
    task = asyncio.create_task(export_forever(queue, export, schedule))
    async with asyncio.timeout(deadline_s(LIMIT_S)):
        await done.wait()
        await asyncio.sleep(0)
    assert budget.delay_s() == 0
    task.cancel()
    await asyncio.wait({task})
