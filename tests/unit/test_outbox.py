"""The records that wait on the scheduler, and how often its slots are counted."""

from __future__ import annotations

import asyncio
import time

import pytest

from dhpo.executors._outbox import Outbox


class Slots:
    """Counts slots, slowly, and how often it was asked to."""

    def __init__(self, slots: int, seconds: float = 0.0) -> None:
        self.slots = slots
        self.seconds = seconds
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        ends = time.monotonic() + self.seconds
        while time.monotonic() < ends:
            pass
        return self.slots


def test_records_are_kept_until_they_are_acknowledged() -> None:
    async def main() -> None:
        outbox, slots = Outbox(), Slots(3)
        for name in "abc":
            outbox.put([name])
        assert await outbox.exchange(0, 0, slots) == {"records": [(1, ["a"]), (2, ["b"]), (3, ["c"])], "slots": 3}
        outbox.hurry()
        assert (await outbox.exchange(1, 1, slots))["records"] == [(2, ["b"]), (3, ["c"])]
        assert len(outbox) == 2
        outbox.hurry()
        assert (await outbox.exchange(3, 3, slots))["records"] == []
        assert len(outbox) == 0

    asyncio.run(main())


def test_a_count_that_takes_long_stands_for_long() -> None:
    async def main() -> None:
        outbox, slots = Outbox(), Slots(8, seconds=0.1)
        for number in range(20):
            outbox.put([number])
            outbox.hurry()
            answer = await outbox.exchange(number, number, slots)
            assert answer == {"records": [(number + 1, [number])], "slots": 8}
        assert slots.asked == 1

    asyncio.run(main())


def test_fewer_workers_count_at_once() -> None:
    async def main() -> None:
        outbox, slots = Outbox(), Slots(8, seconds=0.1)
        assert (await outbox.exchange(0, 0, slots))["slots"] == 8
        slots.slots = 7
        outbox.recount()
        outbox.hurry()
        assert (await outbox.exchange(0, 0, slots))["slots"] == 7

    asyncio.run(main())


def test_more_slots_are_seen_without_a_word() -> None:
    async def main() -> None:
        outbox, slots = Outbox(), Slots(1)
        assert (await outbox.exchange(0, 0, slots))["slots"] == 1
        slots.slots = 2
        assert (await asyncio.wait_for(outbox.exchange(0, 0, slots), 60))["slots"] == 2

    asyncio.run(main())


@pytest.mark.parametrize(("n_slots", "pause"), [(4, None), (1500, 0.03), (10**9, 0.05)])
def test_a_driver_of_few_slots_is_answered_at_once_and_one_of_many_with_time_between(
    n_slots: int, pause: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def main() -> None:
        outbox, now = Outbox(), 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        await outbox.breathe()
        await outbox.exchange(0, 0, lambda: n_slots)
        assert slept == []
        await outbox.breathe()
        assert slept == ([] if pause is None else [pytest.approx(pause)])
        now += 1.0  # it is long ago that the driver was answered
        slept.clear()
        await outbox.breathe()
        assert slept == []
        monkeypatch.undo()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(main())
