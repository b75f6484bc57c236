"""How large a tenant is, and who is where in it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

PAGE = 50
"""Messages or conversations on a page: both tenants fill one, or the ratio would be that of two pages' lengths."""
BUSY_MEMBERS = 100
"""Of the busiest conversation: the most for which a message says who has read it."""
MEMBERS = 5
"""Of an ordinary conversation."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a tenant. Of its `messages`, `busiest` are in one conversation and `crowds` in another, which has
    `users` members: everybody. The rest is spread evenly over the other conversations. The reader is in `readers`
    conversations, those two among them."""

    name: str
    messages: int
    busiest: int
    crowds: int
    users: int
    conversations: int
    readers: int


SMALL = Shape(
    name="small", messages=1_000, busiest=500, crowds=100, users=BUSY_MEMBERS, conversations=72, readers=PAGE + 10
)


def large(scale: float) -> Shape:
    """At scale 1 the tenant of the targets; never smaller than SMALL."""
    messages = max(int(1_000_000 * scale), SMALL.messages)
    return Shape(
        name="large",
        messages=messages,
        busiest=messages // 2,
        crowds=max(messages // 100, SMALL.crowds),
        users=max(int(10_000 * scale), SMALL.users),
        conversations=max(int(5_000 * scale), SMALL.conversations),
        readers=max(int(1_000 * scale), SMALL.readers),
    )


BUSIEST, CROWD, FIRST_ORDINARY = 0, 1, 2
"""Positions of the conversations among `rooms`."""
READER = 0
BLOCKED = (1, 2)
"""Positions of users: who asks, and whom they block."""


@dataclass(frozen=True, slots=True)
class Room:
    """A conversation to be: its members by their position among the users, and how many messages it gets."""

    members: Sequence[int]
    messages: int


def rooms(shape: Shape, draw: random.Random) -> list[Room]:
    """All conversations; the reader's first."""
    others = range(READER + 1, shape.users)
    ordinary = shape.conversations - FIRST_ORDINARY
    each, left = divmod(shape.messages - shape.busiest - shape.crowds, ordinary)
    planned = [Room(range(BUSY_MEMBERS), shape.busiest), Room(range(shape.users), shape.crowds)]
    for number in range(ordinary):
        is_readers = FIRST_ORDINARY + number < shape.readers
        members = draw.sample(others, MEMBERS - is_readers)
        planned.append(Room([READER, *members] if is_readers else members, each + (number < left)))
    return planned
