"""Nobody is told something older after something newer, and nobody is left out for it."""

from uuid import uuid4

from realtime.presence.told import FORGET_AFTER_S, MAX_USERS, Told

ANN, BEN = uuid4(), uuid4()


def test_what_is_older_or_doubled_is_passed_over() -> None:
    told = Told()
    assert told.take(ANN, 5, "away") == "away"
    assert told.take(ANN, 5, "away") is None
    assert told.take(ANN, 4, "online") is None
    assert told.take(BEN, 4, "online") == "online"
    assert told.take(ANN, 6, "offline") == "offline"


def test_what_a_newcomer_saw_takes_the_place_of_what_was_under_way() -> None:
    told = Told()
    assert told.take(ANN, 3, "offline") == "offline"
    # Announcements 4 (online) and 7 (away) are under way when a newcomer reads what the second says.
    assert told.take_read(ANN, 7, "away, read") is True
    assert told.take(ANN, 4, "online") == "away, read"
    assert told.take(ANN, 7, "away") is None
    assert told.take(ANN, 8, "offline") == "offline"


def test_what_was_read_before_the_last_announcement_is_not_shown() -> None:
    told = Told()
    assert told.take(ANN, 9, "offline") == "offline"
    assert told.take_read(ANN, 8, "online, read") is False
    assert told.take_read(ANN, 9, "offline, read") is True
    assert told.take_read(BEN, 8, "online, read") is True


def test_what_is_long_ago_or_too_much_is_forgotten() -> None:
    now = 0.0
    told = Told(clock=lambda: now)
    told.take(ANN, 5, "away")
    for _ in range(2):
        now += FORGET_AFTER_S + 1
        assert told.take(ANN, 5, "away") is None
        told.take(BEN, int(now), "away")
    assert told.take(ANN, 5, "away") == "away"
    for number in range(3 * MAX_USERS):
        told.take(uuid4(), number + 1, "online")
    assert len(told._now) + len(told._before) <= 2 * MAX_USERS
