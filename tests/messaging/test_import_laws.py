"""Imports under everything that happens to long-running things: cut anywhere, repeated, doubled, killed, resumed."""

import threading
from contextlib import suppress
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.management.commands import import_ndjson
from messaging.queries import imports as queries
from messaging.queries.unread import recount, unread_counts
from messaging.services import imports
from quotas.services.limits import get_limits
from tenants.scope import tenant_scope
from tests.accounts import Account, draft
from tests.imports import LIVELY, feed, imported, line, message, open_import, state
from tests.laws import examples
from tests.snapshots import contents
from tests.threads import at_once

pytestmark = pytest.mark.core

FILE = b"".join(LIVELY)


class Undone(Exception):
    """Takes back what an example did."""


@pytest.fixture
def clean(tenant: Account) -> dict[str, Any]:
    """What one clean import of the whole file leaves."""
    found: dict[str, Any] = {}
    with suppress(Undone), transaction.atomic():
        imported(tenant, FILE)
        found = state(tenant)
        raise Undone
    assert found["log"]
    return found


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.integers(1, len(LIVELY) - 1)), repeats=st.lists(st.integers(0, len(LIVELY)), max_size=4))
def test_cut_at_any_line_and_repeated_it_is_the_same(
    tenant: Account, clean: dict[str, Any], cuts: set[int], repeats: list[int]
) -> None:
    edges = [0, *sorted(cuts), len(LIVELY)]
    chunks = [b"".join(LIVELY[begin:end]) for begin, end in pairwise(edges)]
    with suppress(Undone), transaction.atomic():
        imported(tenant, *chunks)
        assert state(tenant) == clean
        for begin in repeats:  # in another import, from anywhere on
            again = imported(tenant, b"".join(LIVELY[begin:]))
            assert (again["created"], again["updated"], again["failed"]) == (0, 0, 0)
        assert state(tenant) == clean
        raise Undone


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)))
def test_chunks_in_another_order_are_refused(tenant: Account, clean: dict[str, Any], order: list[int]) -> None:
    """Whatever is sent when: only the chunk that is next is taken, and in the end everything is there once."""
    chunks = [b"".join(LIVELY[begin : begin + 3]) for begin in range(0, len(LIVELY), 3)]
    positions = [sum(map(len, chunks[:number])) for number in range(len(chunks))]
    with suppress(Undone), transaction.atomic():
        job = open_import(tenant.api)
        due = 0
        for number in [*order, *range(5)]:
            answer = feed(tenant.api, job, chunks[number], positions[number])
            if number == due:
                assert answer.data["failed"] == 0
                due += 1
            else:
                answer.refuses(409, "import_position")
                assert answer.error["details"]["positionBytes"] == sum(map(len, chunks[:due]))
        assert due == len(chunks)
        assert state(tenant) == clean
        raise Undone


def test_the_same_chunk_from_two_clients_at_once(committed_tenant: Account) -> None:
    job = open_import(committed_tenant.api)
    answers = at_once(*[lambda: feed(committed_tenant.api, job, FILE, 0)] * 4)
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
    found = committed_tenant.api.get(f"/imports/{job}").data
    assert (found["positionBytes"], found["created"], found["failed"]) == (len(FILE), 13, 0)
    assert [entry[:2] for entry in state(committed_tenant)["log"]] == [
        *(("pair", seq) for seq in (1, 2)),
        *(("room", seq) for seq in range(1, 6)),
    ]


def test_the_same_file_in_two_imports_at_once(committed_tenant: Account) -> None:
    """Nothing is doubled: what the slower one finds made meanwhile is unchanged."""
    jobs = [open_import(committed_tenant.api) for _ in range(3)]
    answers = at_once(*[lambda job=job: feed(committed_tenant.api, job, FILE, 0) for job in jobs])  # type: ignore[misc]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert sorted((answer.data["created"], answer.data["unchanged"]) for answer in answers) == [
        (0, 13),
        (0, 13),
        (13, 0),
    ]
    assert committed_tenant.api.get("/usage").data["users"]["current"] == 3
    log = state(committed_tenant)["log"]
    assert len(log) == len({entry[3]["id"] for entry in log}) == 7


def test_sends_go_on_beside_an_import(committed_tenant: Account) -> None:
    """Into the same conversation: the log is dense, everything is there once, and only what was sent is unread."""
    ada, bob = committed_tenant.user("ada"), committed_tenant.user("bob")
    room = committed_tenant.conversation(ada, bob, externalId="room")
    chunks = [b"".join(message(f"{n}-{m}", "room", "bob") for m in range(50)) for n in range(6)]

    def send() -> None:
        for number in range(30):
            body = draft(room, ada, f"live {number}")
            assert committed_tenant.api.post("/messages/send", body).status == 200

    at_once(lambda: imported(committed_tenant, *chunks) and None, send, send)
    log = state(committed_tenant)["log"]
    assert [entry[1] for entry in log] == list(range(1, 361))
    assert [entry[3]["message_index"] for entry in log] == list(range(1, 361))
    conversation_id = UUID(room["id"])
    with tenant_scope(committed_tenant):
        expected = recount(conversation_id)
        assert expected == {UUID(ada["id"]): 0, UUID(bob["id"]): 60}
        for user_id, count in expected.items():
            assert unread_counts(user_id, [conversation_id])[conversation_id] == count


class Killed(Exception):
    """The process ends here."""


STEPS = (
    "lock_conversations",
    "insert_users",
    "insert_conversations",
    "insert_places",
    "insert_messages",
    "insert_reactions",
)


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_the_middle_it_goes_on_where_it_stood(
    committed_tenant: Account, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tenant = committed_tenant
    job = open_import(tenant.api)
    first = b"".join(LIVELY[:2])
    feed(tenant.api, job, first, 0)
    before = contents(tenant)
    real = getattr(queries, step)

    def dying(*arguments: Any, **options: Any) -> Any:
        real(*arguments, **options)
        raise Killed

    monkeypatch.setattr(queries, step, dying)
    with pytest.raises(Killed), tenant_scope(tenant):
        imports.take_chunk(tenant_id=tenant.id, import_id=job, position=len(first), chunk=FILE[len(first) :])
    monkeypatch.setattr(queries, step, real)
    assert contents(tenant) == before
    stands_at = tenant.api.get(f"/imports/{job}").data["positionBytes"]
    assert stands_at == len(first)
    assert feed(tenant.api, job, FILE[stands_at:], stands_at).data["failed"] == 0
    resumed = state(tenant)
    again = imported(tenant, FILE)
    assert (again["created"], again["updated"], again["failed"]) == (0, 0, 0)
    assert state(tenant) == resumed
    assert [entry[:2] for entry in resumed["log"] if entry[0] == "room"] == [("room", seq) for seq in range(1, 6)]


def test_a_row_that_is_made_meanwhile_is_met_in_the_next_attempt(
    committed_tenant: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = committed_tenant
    real, raced = queries.insert_users, []

    def slow(users: Any, **options: Any) -> None:
        if not raced:
            raced.append(at_once(lambda: tenant.user("ada", displayName="made meanwhile")))
        real(users, **options)

    monkeypatch.setattr(queries, "insert_users", slow)
    taken = imported(tenant, line("user", externalUserId="ada", displayName="Ada") + line("user", externalUserId="bob"))
    assert (taken["created"], taken["updated"], taken["failed"]) == (1, 1, 0)
    assert tenant.api.get("/usage").data["users"]["current"] == 2
    assert raced


# --- cost -----------------------------------------------------------------------------------------------------------


def everything(size: int, mark: str) -> bytes:
    """New and known users and conversations, and messages with all that hangs on them, `size` of each."""
    numbers = range(size)
    return b"".join(
        [
            *(line("user", externalUserId=f"{mark}-u{n}") for n in numbers),
            *(line("user", externalUserId=f"known-{n}", displayName=mark) for n in numbers),
            *(
                line("conversation", externalId=f"{mark}-c{n}", type="group", participants=[{"userId": f"{mark}-u{n}"}])
                for n in numbers
            ),
            *(
                line(
                    "conversation",
                    externalId=f"room-{n}",
                    type="group",
                    title=mark,
                    participants=[{"userId": f"{mark}-u{n}"}],
                )
                for n in numbers
            ),
            *(message(f"{mark}-m{n}", f"{mark}-c{n}", f"{mark}-u{n}", mentions=[f"known-{n}"]) for n in numbers),
            *(
                message(
                    f"{mark}-r{n}",
                    f"{mark}-c{n}",
                    f"known-{n}",
                    replyToId=f"{mark}-m{n}",
                    clientMessageId=f"{mark}-{n}",
                    reactions=[{"name": "👍", "userIds": [f"known-{n}"]}],
                )
                for n in numbers
            ),
            *(b"broken\n" for _ in numbers),
        ]
    )


def test_a_chunk_costs_the_same_whatever_its_size(committed_tenant: Account) -> None:
    tenant = committed_tenant
    job = open_import(tenant.api)
    known = b"".join(line("user", externalUserId=f"known-{n}", isActive=False) for n in range(60))
    rooms = b"".join(line("conversation", externalId=f"room-{n}", type="group") for n in range(60))
    feed(tenant.api, job, known + rooms, 0)

    def cost(chunk: bytes) -> int:
        position = tenant.api.get(f"/imports/{job}").data["positionBytes"]
        get_limits(tenant.id)
        with CaptureQueriesContext(connection) as captured:
            answer = feed(tenant.api, job, chunk, position)
        assert answer.status == 200
        return len(captured.captured_queries)

    assert cost(everything(1, "a")) == cost(everything(2, "b")) == cost(everything(30, "c")) == 27
    assert cost(message("x", "room-1", "known-1")) == cost(
        b"".join(message(f"y{n}", "room-1", "known-1") for n in range(500))
    )
    assert cost(b"broken\n") == cost(b"broken\n" * 100)


# --- the command ----------------------------------------------------------------------------------------------------


def run(*arguments: Any) -> tuple[int, str]:
    """The exit code and what was printed."""
    printed = StringIO()
    try:
        call_command("import_ndjson", *map(str, arguments), stdout=printed)
    except CommandError as error:
        return error.returncode, printed.getvalue() + str(error)
    return 0, printed.getvalue()


def test_the_command_imports_a_file(
    tenant: Account, clean: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "old.ndjson"
    file.write_bytes(FILE.rstrip(b"\n"))
    monkeypatch.setattr(import_ndjson, "CHUNK_LINES", 4)
    code, said = run(tenant.tenant.subdomain, file)
    assert (code, said.splitlines()[1]) == (0, "14 lines: 13 created, 0 updated, 0 unchanged, 0 failed.")
    assert state(tenant) == clean
    (job,) = tenant.api.get("/imports").data
    assert (job["name"], job["status"], job["positionBytes"]) == ("old.ndjson", "finished", len(FILE))
    assert f"Import {job['id']}, from byte 0." in said


def test_the_command_goes_on_with_a_job(
    tenant: Account, clean: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "old.ndjson"
    file.write_bytes(FILE)
    monkeypatch.setattr(import_ndjson, "CHUNK_LINES", 5)
    real, calls = imports.take_chunk, []

    def dying(**options: Any) -> Any:
        calls.append(options["position"])
        if len(calls) == 2:
            raise Killed
        return real(**options)

    monkeypatch.setattr(imports, "take_chunk", dying)
    with pytest.raises(Killed):
        run(tenant.tenant.subdomain, file)
    (job,) = tenant.api.get("/imports").data
    assert (job["status"], job["positionBytes"]) == ("open", len(b"".join(LIVELY[:5])))
    code, said = run(tenant.tenant.subdomain, file, "--job", job["id"])
    assert (code, said.splitlines()[1]) == (0, "14 lines: 13 created, 0 updated, 0 unchanged, 0 failed.")
    assert state(tenant) == clean
    code, said = run(tenant.tenant.subdomain, file, "--job", job["id"])
    assert code == 0, "there is nothing left to do"


def test_the_command_says_what_was_left_out(tenant: Account, tmp_path: Path) -> None:
    file = tmp_path / "bad.ndjson"
    file.write_bytes(LIVELY[0] + b"broken\n" + message("x", "nowhere", "ada"))
    code, said = run(tenant.tenant.subdomain, file)
    assert code == 1
    assert "line 3: conversation_not_found /conversationId" in said
    assert said.endswith("2 lines were left out.")
    assert run("nobody", file) == (1, "There is no tenant with the subdomain 'nobody'.")
    code, said = run(tenant.tenant.subdomain, tmp_path / "none.ndjson")
    assert (code, "No such file" in said) == (1, True)
    code, said = run(tenant.tenant.subdomain, file, "--job", "x")
    assert (code, "import_not_found" in said) == (1, True)


def test_a_place_in_the_queue_is_no_deadlock(committed_tenant: Account) -> None:
    """Two imports over the same conversations in opposite orders, each message theirs."""
    ada = committed_tenant.user("ada")
    for name in ("a", "b", "c"):
        committed_tenant.conversation(ada, externalId=name)
    gate = threading.Barrier(2)

    def run_one(mark: str, order: str) -> int:
        total = 0
        for number in range(5):
            gate.wait(30)
            chunk = b"".join(message(f"{mark}-{number}-{name}", name, "ada") for name in order)
            total += imported(committed_tenant, chunk)["created"]
        return total

    assert at_once(lambda: run_one("x", "abc"), lambda: run_one("y", "cba")) == [15, 15]
    assert [entry[1] for entry in state(committed_tenant)["log"]] == [*range(1, 11)] * 3
