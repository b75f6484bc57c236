"""Bad lines of an import: each is reported, none is quoted, none touches another."""

import json
import random
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from messaging.services import imports_lines
from tests.accounts import Account
from tests.imports import LIVELY, feed, imported, line, message, open_import, state
from tests.laws import examples

UUID_OF_NOBODY = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"
CANARY = "zebra-stripes"


def room(**fields: Any) -> bytes:
    return line("conversation", **({"externalId": "c", "type": "group"} | fields))


def people(*names: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"userId": name, **fields} for name in names]


# Users ada and bob, a group `room` with ada as its owner, a direct `pair`, and a message m-1 of ada's are there.
BAD: list[tuple[str, bytes, str, str]] = [
    ("not JSON", b"hello\n", "invalid_json", ""),
    ("cut", b'{"kind": "user", "externalUserId"\n', "invalid_json", ""),
    ("not UTF-8", b'{"kind": "user", "externalUserId": "\xff\xfe"}\n', "invalid_json", ""),
    ("a lone surrogate", b'{"kind": "user", "externalUserId": "\\ud800"}\n', "invalid_json", ""),
    ("NUL", b'{"kind": "user", "externalUserId": "a\\u0000"}\n', "validation_failed", ""),
    ("a byte order mark", b"\xef\xbb\xbf" + LIVELY[0], "invalid_json", ""),
    ("two objects", b'{"kind": "user"} {"kind": "user"}\n', "invalid_json", ""),
    ("NaN", b'{"kind": "user", "externalUserId": NaN}\n', "invalid_json", ""),
    ("a list", b"[]\n", "validation_failed", ""),
    ("null", b"null\n", "validation_failed", ""),
    ("deep", b'{"kind":' * 1000 + b"1" + b"}" * 1000 + b"\n", "invalid_json", ""),
    (
        "deeper than we keep",
        line("user", externalUserId="x", metadata=json.loads('{"a":' * 70 + "1" + "}" * 70)),
        "invalid_json",
        "",
    ),
    ("too long", line("user", externalUserId="x", metadata={"a": "x" * 1024 * 1024}), "payload_too_large", ""),
    ("no kind", b"{}\n", "validation_failed", "/kind"),
    ("unknown kind", line("channel"), "validation_failed", "/kind"),
    ("a kind that is no text", b'{"kind": ["user"]}\n', "validation_failed", "/kind"),
    ("no id", line("user"), "validation_failed", "/externalUserId"),
    ("an empty id", line("user", externalUserId=""), "validation_failed", "/externalUserId"),
    ("an unknown field", line("user", externalUserId="x", **{CANARY: 1}), "validation_failed", ""),
    ("a wrong type", line("user", externalUserId="x", isActive="yes"), "validation_failed", "/isActive"),
    ("no day", line("user", externalUserId="x", createdAt="2023-02-30T00:00:00Z"), "validation_failed", "/createdAt"),
    (
        "the far future",
        line("user", externalUserId="x", createdAt="2999-01-01T00:00:00Z"),
        "validation_failed",
        "/createdAt",
    ),
    (
        "the far past",
        line("user", externalUserId="x", createdAt="1969-12-31T23:59:59Z"),
        "validation_failed",
        "/createdAt",
    ),
    (
        "before all time",
        line("user", externalUserId="x", createdAt="0000-01-01T00:00:00Z"),
        "validation_failed",
        "/createdAt",
    ),
    (
        "before year 1",
        line("user", externalUserId="x", createdAt="0001-01-01T00:00:00+14:00"),
        "validation_failed",
        "/createdAt",
    ),
    ("a type that changes", room(externalId="room", type="channel"), "conflict", "/type"),
    ("an unknown type", room(type="room"), "validation_failed", "/type"),
    ("a stranger", room(participants=people("ada", "nobody")), "user_not_found", "/participants/1/userId"),
    ("twice the same", room(participants=people("ada", "ada")), "validation_failed", "/participants/1/userId"),
    ("two owners", room(participants=people("ada", "bob", role="owner")), "validation_failed", "/participants/1/role"),
    ("another owner", room(externalId="room", participants=people("cyd", role="owner")), "conflict", "/participants"),
    ("a part too much", room(participants=[{"userId": "ada", CANARY: 1}]), "validation_failed", "/participants/0"),
    (
        "joined in the future",
        room(participants=people("ada", joinedAt="2999-01-01T00:00:00Z")),
        "validation_failed",
        "/participants/0/joinedAt",
    ),
    ("a pair of one", room(type="direct", participants=people("ada")), "validation_failed", "/participants"),
    (
        "a pair of three",
        room(type="direct", participants=people("ada", "bob", "cyd")),
        "validation_failed",
        "/participants",
    ),
    (
        "a third in a pair",
        room(externalId="pair", type="direct", participants=people("ada", "cyd")),
        "conflict",
        "/participants",
    ),
    (
        "an owner of a pair",
        room(type="direct", participants=people("ada", "cyd", role="admin")),
        "validation_failed",
        "/participants/0/role",
    ),
    ("no conversation", message("x", "nowhere", "ada"), "conversation_not_found", "/conversationId"),
    ("no sender", message("x", "room", UUID_OF_NOBODY), "user_not_found", "/senderId"),
    ("in another conversation", message("m-1", "pair", "ada"), "id_conflict", "/id"),
    ("no original id", message("", "room", "ada"), "validation_failed", "/id"),
    ("a long original id", message("x" * 256, "room", "ada"), "validation_failed", "/id"),
    ("no time", message("x", "room", "ada", createdAt=None), "validation_failed", "/createdAt"),
    ("edited before", message("x", "room", "ada", editedAt="2023-01-01T00:00:00Z"), "validation_failed", "/editedAt"),
    (
        "deleted before",
        message("x", "room", "ada", deletedAt="2023-01-01T00:00:00Z"),
        "validation_failed",
        "/deletedAt",
    ),
    (
        "deleted in the future",
        message("x", "room", "ada", deletedAt="2999-01-01T00:00:00Z"),
        "validation_failed",
        "/deletedAt",
    ),
    ("a system message", message("x", "room", "ada", type="system"), "validation_failed", "/type"),
    ("no content", message("x", "room", "ada", content=None), "validation_failed", "/content"),
    ("content of another type", message("x", "room", "ada", type="location"), "validation_failed", "/content/latitude"),
    ("a long text", message("x", "room", "ada", "x" * 20_001), "validation_failed", "/content/text"),
    (
        "large content",
        message("x", "room", "ada", type="custom", content={"a": "x" * 65_536}),
        "payload_too_large",
        "/content",
    ),
    ("large metadata", message("x", "room", "ada", metadata={"a": "x" * 16_384}), "payload_too_large", "/metadata"),
    ("a reply to nothing", message("x", "room", "ada", replyToId="m-9"), "message_not_found", "/replyToId"),
    ("a reply to itself", message("x", "room", "ada", replyToId="x"), "message_not_found", "/replyToId"),
    ("a reply across", message("x", "pair", "ada", replyToId="m-1"), "message_not_found", "/replyToId"),
    ("a mention of nobody", message("x", "room", "ada", mentions=["ada", "nobody"]), "user_not_found", "/mentions/1"),
    ("mentions twice", message("x", "room", "ada", mentions=["ada", "ada"]), "validation_failed", "/mentions"),
    (
        "many mentions",
        message("x", "room", "ada", mentions=[f"u{n}" for n in range(10_000)]),
        "validation_failed",
        "/mentions",
    ),
    (
        "a reaction of nobody",
        message("x", "room", "ada", reactions=[{"name": "a", "userIds": ["ada", "no"]}]),
        "user_not_found",
        "/reactions/0/userIds/1",
    ),
    (
        "a reaction with blanks",
        message("x", "room", "ada", reactions=[{"name": "a b", "userIds": ["ada"]}]),
        "validation_failed",
        "/reactions/0/name",
    ),
    (
        "the same reaction",
        message("x", "room", "ada", reactions=[{"name": "a", "userIds": ["ada"]}] * 2),
        "validation_failed",
        "/reactions",
    ),
    (
        "a file of nobody",
        message("x", "room", "ada", type="file", content={"fileId": UUID_OF_NOBODY}),
        "validation_failed",
        "/content/fileId",
    ),
]


@pytest.fixture
def scene(tenant: Account) -> Account:
    users = b"".join(line("user", externalUserId=name) for name in ("ada", "bob", "cyd"))
    imported(
        tenant,
        users
        + room(externalId="room", participants=[{"userId": "ada", "role": "owner"}, {"userId": "bob"}])
        + room(externalId="pair", type="direct", participants=people("ada", "bob"))
        + message("m-1", "room", "ada"),
    )
    return tenant


@pytest.mark.parametrize(("bad", "code", "pointer"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_line_is_reported_and_changes_nothing(scene: Account, bad: bytes, code: str, pointer: str) -> None:
    before = state(scene)
    taken = imported(scene, bad)
    assert (taken["lines"], taken["failed"], taken["created"] + taken["updated"] + taken["unchanged"]) == (1, 1, 0)
    (failure,) = taken["failures"]
    assert (failure["line"], failure["code"], failure["pointer"]) == (1, code, pointer)
    assert state(scene) == before


def test_bad_lines_stop_no_good_one(scene: Account) -> None:
    good = [message(f"good-{number}", "room", "bob", f"text {number}") for number in range(len(BAD))]
    mixed = [one for pair in zip(good, (case[1] for case in BAD), strict=True) for one in pair]
    taken = imported(scene, b"".join(mixed))
    assert (taken["created"], taken["failed"]) == (len(BAD), len(BAD))
    job = scene.api.get("/imports", {"limit": 1}).data[0]
    failures = scene.api.get(f"/imports/{job['id']}/failures", {"limit": 100}).data
    assert [(one["line"], one["code"], one["pointer"]) for one in failures] == [
        (2 * place, code, pointer) for place, (_, _, code, pointer) in enumerate(BAD, start=1)
    ]
    page = scene.api.get("/messages/conversations/room", {"limit": 100}).data["messages"]
    assert [one["content"]["text"] for one in page[1:]] == [f"text {number}" for number in range(len(BAD))]
    assert [one["seq"] for one in page] == list(range(1, len(BAD) + 2))


def test_what_is_in_the_chunk_already_is_reported(scene: Account) -> None:
    taken = imported(
        scene,
        line("user", externalUserId="dan", displayName="first")
        + line("user", externalUserId="dan", displayName="second")
        + room(title="first")
        + room(title="second")
        + message("a", "c", "dan", "first")
        + message("a", "c", "dan", "second"),
    )
    assert [(one["line"], one["code"], one["pointer"]) for one in taken["failures"]] == [
        (2, "conflict", "/externalUserId"),
        (4, "conflict", "/externalId"),
        (6, "conflict", "/id"),
    ]
    assert scene.api.get("/users/dan").data["displayName"] == "first"
    assert scene.api.get("/conversations/c").data["title"] == "first"
    assert scene.api.get("/messages/conversations/c").data["messages"][0]["content"] == {"text": "first"}


def test_ids_that_are_the_servers_are_nobody_elses(scene: Account) -> None:
    ada, there = scene.api.get("/users/ada").data["id"], scene.api.get("/conversations/room").data["id"]
    taken = imported(scene, line("user", externalUserId=ada) + room(externalId=there))
    assert [(one["line"], one["code"], one["pointer"]) for one in taken["failures"]] == [
        (1, "id_conflict", "/externalUserId"),
        (2, "id_conflict", "/externalId"),
    ]
    taken = imported(scene, room(participants=people(ada)) + message("s", there, ada, mentions=[ada]))
    assert (taken["created"], taken["failed"]) == (2, 0)


def test_a_line_knows_only_those_before_it(scene: Account) -> None:
    backwards = (
        message("b", "new", "dan")
        + room(externalId="new", participants=people("dan"))
        + line("user", externalUserId="dan")
    )
    taken = imported(scene, backwards)
    assert [(one["line"], one["code"]) for one in taken["failures"]] == [
        (1, "conversation_not_found"),
        (2, "user_not_found"),
    ]


def test_no_report_quotes_its_line(scene: Account) -> None:
    secret = f"{CANARY} {CANARY}"
    fields = {
        "externalUserId": secret * 20,
        "displayName": f"{secret}\n",
        "avatarUrl": secret,
        "email": secret,
        "metadata": secret,
        "createdAt": secret,
        "isActive": secret,
        secret: secret,
    }
    lines = [
        secret.encode() + b"\n",
        f'{{"{secret}": }}\n'.encode(),
        json.dumps({"kind": secret}).encode() + b"\n",
        *(line("user", **({"externalUserId": "x"} | {name: value})) for name, value in fields.items()),
        *(
            message("x", "room", "ada", **{name: secret})
            for name in ("type", "content", "mentions", "reactions", "replyToId")
        ),
        message("x", "room", "ada", type="custom", content={}, metadata={secret: [secret]}, editedAt=secret),
        message("x", "room", "ada", **{secret: secret}),
        message(secret, secret, secret),
        message("x", "room", secret),
        message("x", "room", "ada", mentions=[secret]),
        message("x", "room", "ada", reactions=[{"name": "a", "userIds": [secret]}]),
        message("x", "room", "ada", reactions=[{"name": secret, "userIds": ["ada"], secret: 1}]),
        room(participants=[{"userId": secret}, {secret: 1}]),
    ]
    taken = imported(scene, b"".join(lines))
    assert taken["failed"] == len(lines)
    job = scene.api.get("/imports", {"limit": 1}).data[0]
    report = json.dumps(scene.api.get(f"/imports/{job['id']}/failures", {"limit": 100}).data, ensure_ascii=False)
    assert CANARY not in report


def test_lines_may_end_as_windows_ends_them_and_be_blank(scene: Account) -> None:
    taken = imported(scene, b"\r\n \t\r\n" + message("a", "room", "ada").replace(b"\n", b"\r\n") + b"\n")
    assert (taken["lines"], taken["created"], taken["failed"]) == (4, 1, 0)


FILE = b"".join(LIVELY)
STARTS = [sum(map(len, LIVELY[:number])) for number in range(len(LIVELY) + 1)]


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(FILE) - 1), byte=st.integers(0, 255))
@example(at=0, byte=0)
@example(at=STARTS[1] - 1, byte=0x20)
def test_a_file_broken_at_any_byte(tenant: Account, at: int, byte: int) -> None:
    """Every answer is a proper one, every line is accounted for, and only lines from the broken one on can suffer."""
    broken = bytearray(FILE)
    broken[at] = byte
    with suppress(Undone), transaction.atomic():
        _take_broken(tenant, bytes(broken), first_bad=next(n for n in range(len(LIVELY)) if at < STARTS[n + 1]) + 1)
        raise Undone


class Undone(Exception):
    """Takes back what an example did."""


def _take_broken(tenant: Account, chunk: bytes, *, first_bad: int) -> None:
    job = open_import(tenant.api)
    if not chunk.endswith(b"\n"):
        feed(tenant.api, job, chunk, 0).refuses(422, "validation_failed", "")
        return
    answer = feed(tenant.api, job, chunk, 0).data
    blank = sum(1 for one in chunk.split(b"\n")[:-1] if not one.strip())
    assert answer["lines"] == chunk.count(b"\n")
    assert answer["created"] + answer["updated"] + answer["unchanged"] + answer["failed"] + blank == answer["lines"]
    assert all(failure["line"] >= first_bad for failure in answer["failures"])
    log = state(tenant)["log"]
    for name in {entry[0] for entry in log}:
        seqs = [entry[1] for entry in log if entry[0] == name]
        assert seqs == list(range(1, len(seqs) + 1))


@settings(max_examples=examples(300), deadline=None)
@given(noise=st.binary(max_size=300))
def test_noise_is_taken_apart(noise: bytes) -> None:
    lines = imports_lines.read_lines(UUID(UUID_OF_NOBODY), noise, first_line=5, now=datetime(2025, 1, 1, tzinfo=UTC))
    assert lines.count == len(noise.split(b"\n")) - (noise.endswith(b"\n") or not noise)
    assert all(5 <= failure.line < 5 + lines.count for failure in lines.failures)


def test_a_thousand_lines_of_mended_noise(scene: Account) -> None:
    """Good lines with bytes of them replaced at random: whatever is left, the others are taken in."""
    generator = random.Random(7)
    chunk = bytearray()
    for number in range(1000):
        one = bytearray(message(f"n-{number}", "room", "ada"))
        for _ in range(number % 3):
            one[generator.randrange(len(one) - 1)] = generator.choice(b'{}[]":,\\x\x00\xff 9')
        chunk += one
    taken = imported(scene, bytes(chunk))
    assert taken["lines"] == 1000
    assert taken["created"] + taken["failed"] == 1000
    assert taken["created"] >= 334
