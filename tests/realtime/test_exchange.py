"""What processes ask of each other: answered once, or refused in time, whatever becomes of the other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from channels.layers import get_channel_layer

from messagecore.kernel.errors import ServiceUnavailable
from realtime.fallback import exchange as module
from realtime.fallback.exchange import Exchange
from tests.e2e.client import unique

Make = Callable[..., Exchange]


@pytest.fixture
async def make(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """`make(perform)`: an exchange of a process of its own, started."""
    monkeypatch.setattr(module, "ANSWERED_WITHIN_S", 0.5)
    made: list[Exchange] = []

    def make(perform: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> Exchange:
        made.append(Exchange(unique("process"), perform))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        await one.stop()


async def double(request: dict[str, Any]) -> dict[str, Any]:
    return {"said": 2 * request["number"]}


def test_who_waits_for_requests_is_not_cut_off_by_the_clients_own_patience() -> None:
    """It would be every few seconds, with a pause in which nobody listens."""
    layer = get_channel_layer()
    assert layer.hosts[0]["socket_timeout"] > 2 * layer.brpop_timeout


async def test_a_hundred_requests_both_ways_have_their_own_answers(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERED_WITHIN_S", 60)
    one, other = make(double), make(double)
    asked = [(one, other), (other, one)] * 50
    answers = await asyncio.gather(*(a.ask(b._process, {"number": n}) for n, (a, b) in enumerate(asked)))
    assert [answer["said"] for answer in answers] == [2 * n for n in range(100)]
    assert (one._answers, other._answers) == ({}, {})


@pytest.mark.logs_errors
async def test_who_is_not_answered_is_refused_in_time(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """By nobody, by one who fails, by one who takes too long: that one does not go on with it for ever."""
    ended = asyncio.Event()

    async def fail(_: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("planted")

    async def hang(_: dict[str, Any]) -> dict[str, Any]:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        raise AssertionError("unreachable")

    asker, failing, hanging = make(double), make(fail), make(hang)
    for process in ("nobody", failing._process, hanging._process):
        with pytest.raises(ServiceUnavailable):
            await asker.ask(process, {"number": 1})
    async with asyncio.timeout(5):
        await ended.wait()
    await asyncio.sleep(0.05)
    assert (asker._answers, hanging._working) == ({}, set())
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "a request of another process failed"
    ]


async def test_more_than_it_works_on_at_once_are_not_begun(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_AT_ONCE", 2)
    begun: list[int] = []
    both, go_on = asyncio.Event(), asyncio.Event()

    async def wait(request: dict[str, Any]) -> dict[str, Any]:
        begun.append(request["number"])
        if len(begun) == 2:
            both.set()
        await go_on.wait()
        return {}

    asker, busy = make(double), make(wait)
    asking = [asyncio.create_task(asker.ask(busy._process, {"number": number})) for number in range(5)]
    async with asyncio.timeout(5):
        await both.wait()
    await asyncio.sleep(0.1)  # the others have come by then, or come too late
    go_on.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert len(begun) == 2
    assert [type(outcome) for outcome in outcomes].count(ServiceUnavailable) == 3
    assert outcomes.count({}) == 2


async def test_an_answer_that_comes_too_late_or_of_nothing_harms_nobody(make: Make) -> None:
    asker, other = make(double), make(double)
    await get_channel_layer().send(module.channel_of(asker._process), {"call": "never asked", "answer": {}})
    assert await asker.ask(other._process, {"number": 3}) == {"said": 6}


async def test_it_ends_however_often_it_is_not_heard(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As redis-py does where a cancellation comes together with an answer."""
    heard = 0

    class Deaf:
        async def receive(self, _: str) -> dict[str, Any]:
            nonlocal heard
            while heard < 2:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    heard += 1
            await asyncio.sleep(3600)
            raise AssertionError("unreachable")

    with monkeypatch.context() as patched:
        patched.setattr(module, "get_channel_layer", Deaf)
        one = make(double)
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await one.stop()
        assert heard == 2
    assert one._listening is not None
    assert one._listening.cancelled()
