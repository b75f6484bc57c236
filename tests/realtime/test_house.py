"""What a process has of streams and polls: their ids, their places, and how much one may ask."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from messagecore.kernel.errors import RateLimited, ServiceUnavailable
from messagecore.kernel.ids import find_uuid
from realtime.connection import Connection
from realtime.fallback.house import House
from realtime.visit import Visit


@pytest.fixture
def house() -> House:
    return House()


def visit(house: House) -> Visit:
    async def send(_: dict[str, Any]) -> None:
        pass

    return Visit(Connection(house.new_connection_id(), send, max_frames=1, max_bytes=1))


def test_ids_are_given_once_however_many_are_made_at_once(house: House) -> None:
    """A hundred thousand of them take some tenths of a second: hundreds to the millisecond."""
    made = [house.new_connection_id() for _ in range(100_000)]
    assert len(set(made)) == 100_000
    assert {one[-12:] for one in made} == {house.process}
    found = [UUID(one) for one in made]
    assert {(one.version, one.variant) for one in found} == {(7, "specified in RFC 4122")}
    assert find_uuid(made[0]) == found[0]
    assert [one.int >> 80 for one in found] == sorted(one.int >> 80 for one in found)
    assert House().process != house.process


async def test_places_are_counted_and_given_back(house: House, settings: Any) -> None:
    settings.FALLBACK_MAX_AT_ONCE = 2
    with house.place(visit(house)):
        for _ in range(3):
            with pytest.raises(KeyError), house.place(visit(house)):
                raise KeyError
        with house.place(visit(house)), pytest.raises(ServiceUnavailable), house.place(visit(house)):
            raise AssertionError("nobody comes here")
    house.close()
    with pytest.raises(ServiceUnavailable), house.place(visit(house)):
        raise AssertionError("nobody comes here")


def test_a_user_opens_and_asks_only_so_much(house: House, settings: Any) -> None:
    settings.SOCKET_COMMANDS_PER_SECOND, settings.SOCKET_COMMANDS_BURST = 0.001, 5
    tenant, user = uuid4(), uuid4()
    assert [house.may_ask(tenant, user) for _ in range(7)] == [True] * 5 + [False] * 2
    assert house.may_ask(tenant, uuid4()), "others are not held up"
    settings.FALLBACK_OPENINGS_PER_SECOND = 0.1
    house.check_opening(user)
    with pytest.raises(RateLimited):
        house.check_opening(user)


def test_a_tenants_users_ask_only_so_much_together(house: House, settings: Any) -> None:
    settings.SOCKET_COMMANDS_PER_SECOND_OF_TENANT = 2
    tenant = uuid4()
    asked = [house.may_ask(tenant, uuid4()) for _ in range(50)]
    assert asked[:4] == [True] * 4
    assert not asked[-1]
    assert house.may_ask(uuid4(), uuid4()), "other tenants are not held up"
