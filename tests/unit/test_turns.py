"""A few of many in each turn of the loop, in order, whoever gives up."""

import asyncio
from itertools import pairwise

from messagecore.kernel.turns import Turns


def test_all_come_in_order_a_few_a_turn_and_others_between() -> None:
    turns = Turns(3)
    came: list[int] = []
    seen: list[int] = []

    async def come(number: int) -> None:
        await turns.mine()
        came.append(number)

    async def work() -> None:
        came.clear()
        seen.clear()
        everybody = [asyncio.create_task(come(number)) for number in range(20)]
        await asyncio.sleep(0)
        everybody[7].cancel()
        while not all(one.done() for one in everybody):
            seen.append(len(came))
            await asyncio.sleep(0)
        assert came == [number for number in range(20) if number != 7]
        assert max(later - earlier for earlier, later in pairwise(seen)) <= 3

    asyncio.run(work())
    asyncio.run(work())  # another loop begins anew


def test_a_loop_that_ended_meanwhile_holds_up_nobody() -> None:
    turns = Turns(1)

    async def leave_somebody_waiting() -> None:
        await turns.mine()
        asyncio.ensure_future(turns.mine())  # noqa: RUF006 - it is left behind

    async def come() -> None:
        await asyncio.wait_for(asyncio.gather(turns.mine(), turns.mine(), turns.mine()), 5)

    asyncio.run(leave_somebody_waiting())
    asyncio.run(come())


def test_alone_it_is_at_once() -> None:
    async def work() -> None:
        turns = Turns(2)
        for coroutine in (turns.mine(), turns.mine()):
            try:
                coroutine.send(None)
            except StopIteration:
                continue
            raise AssertionError("it waited")

    asyncio.run(work())
