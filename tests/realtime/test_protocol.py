"""Frames and hints: whatever comes in, the parser refuses or understands, and never fails in another way."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messagecore.kernel import catalogue, validation
from messagecore.kernel.errors import Refusal, ValidationFailed
from realtime.protocol import frames, hints
from realtime.protocol.frames import FrameRefused, MalformedFrame
from realtime.protocol.hints import (
    EventHint,
    ExpelledHint,
    Hint,
    JoinedHint,
    LeftHint,
    OnlookersHint,
    PresenceChange,
    PresenceHint,
    TypingHint,
    UserHint,
)

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
COMMANDS = st.sampled_from(sorted(catalogue.commands()))
ALMOST = st.fixed_dictionaries(
    {"type": COMMANDS | ANY_JSON},
    optional={
        "id": ANY_JSON,
        "data": ANY_JSON | st.dictionaries(st.sampled_from(["conversationId", "type", "content", "seq"]), ANY_JSON),
        "more": ANY_JSON,
    },
)


def refusal_of(text: str) -> FrameRefused | None:
    try:
        frames.parse(text)
    except FrameRefused as refused:
        return refused
    return None


def check_answer(text: str) -> None:
    refused = refusal_of(text)
    if refused is not None:
        validation.validate("ServerFrame", json.loads(frames.error(refused.refusal, refused.id)))


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_noise_is_refused_in_the_catalogues_words(text: str) -> None:
    check_answer(text)


@given(ANY_JSON | ALMOST)
def test_any_json_is_understood_or_refused_in_the_catalogues_words(value: Any) -> None:
    check_answer(json.dumps(value))


@given(ALMOST)
def test_what_is_understood_fits_its_schema(value: Any) -> None:
    try:
        frame = frames.parse(json.dumps(value))
    except FrameRefused:
        return
    validation.validate(catalogue.commands()[frame.type]["schema"], frame.data)
    assert (frame.type, frame.id) == (value["type"], value.get("id"))


@pytest.mark.parametrize("name", sorted(catalogue.commands()))
def test_the_catalogues_examples_are_understood(name: str) -> None:
    schema = catalogue.definitions()[catalogue.commands()[name]["schema"]]
    for example in schema["examples"]:
        frame = frames.parse(json.dumps({"type": name, "id": 12, "data": example}))
        assert (frame.type, frame.id, frame.data) == (name, 12, example)
        assert frames.parse(json.dumps({"type": name, "data": example})).id is None


def test_null_is_absent() -> None:
    assert frames.parse('{"type": "ping", "id": null, "data": null}') == frames.Frame("ping", {}, None)
    assert frames.parse('{"type": "authenticate", "data": {"token": null}}').data == {}


@pytest.mark.parametrize(
    ("text", "refusal", "frame_id"),
    [
        ("{", MalformedFrame, None),
        ('{"type": "ping", "id": "a", "x": 1}', MalformedFrame, "a"),
        ('{"type": "ping", "id": true}', MalformedFrame, None),
        ('{"type": "ping", "id": ""}', MalformedFrame, None),
        ('{"type": "ping", "id": 9007199254740992}', MalformedFrame, None),
        ('{"id": -9007199254740991}', MalformedFrame, -(2**53) + 1),
        ('{"type": "nope", "id": 3}', frames.UnknownType, 3),
        ('{"type": "ping", "id": 3, "data": {"a": 1}}', ValidationFailed, 3),
        ('{"type": "ping", "id": 3, "data": {"a": "\\u0000"}}', ValidationFailed, 3),
        ("[" * 2000 + "]" * 2000, MalformedFrame, None),
    ],
)
def test_a_refusal_finds_its_sender(text: str, refusal: type[Refusal], frame_id: object) -> None:
    refused = refusal_of(text)
    assert refused is not None
    assert (type(refused.refusal), refused.id) == (refusal, frame_id) or isinstance(refused.refusal, refusal)
    assert refused.id == frame_id
    assert refused.is_malformed is (refusal is MalformedFrame)


def test_wrong_fields_are_named_as_the_client_sees_them() -> None:
    refused = refusal_of('{"type": "join_conversation", "data": {"conversationId": 5, "x": 1}}')
    assert refused is not None
    assert {field["pointer"] for field in refused.refusal.details["fields"]} == {"/data/conversationId", "/data/x"}


def test_membership_changes_are_read_from_frames() -> None:
    user_id = uuid4()
    data = {
        "conversationId": str(uuid4()),
        "conversationExternalId": None,
        "seq": 3,
        "userId": str(user_id),
        "reason": "left",
        "timestamp": "2026-01-01T00:00:00.000Z",
    }
    removed = frames.find_membership_change(frames.event("participant_removed", data))
    assert removed is not None
    assert (removed.user_id, removed.added) == (user_id, False)
    told = json.loads(frames.conversation_removed(removed.data))
    validation.validate("ServerFrame", told)
    assert told["data"]["reason"] == "left"
    added = frames.find_membership_change(frames.event("participant_added", data))
    assert added is not None
    assert added.added
    assert frames.find_membership_change(frames.event("participant_removed", data | {"userId": None})) is None
    assert frames.find_membership_change(frames.event("new_message", data)) is None


# --- hints ----------------------------------------------------------------------------------------------------------

SEQ = st.integers(0, 2**53 - 1)
IDS = st.lists(st.uuids(), max_size=3).map(tuple)
TEXT = st.text(max_size=20)
WORD = st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
HINTS: st.SearchStrategy[Hint] = st.one_of(
    st.builds(EventHint, st.uuids(), SEQ, TEXT),
    st.builds(JoinedHint, st.uuids(), SEQ, st.none() | WORD, IDS, TEXT),
    st.builds(LeftHint, st.uuids(), SEQ, st.uuids(), TEXT),
    st.builds(TypingHint, st.uuids(), st.uuids(), WORD, st.booleans()),
    st.builds(
        PresenceHint, SEQ, st.lists(st.builds(PresenceChange, st.uuids(), IDS, WORD), min_size=1, max_size=3).map(tuple)
    ),
    st.builds(UserHint, st.uuids(), TEXT),
    st.builds(OnlookersHint, st.uuids(), TEXT),
    st.builds(ExpelledHint, st.uuids(), WORD),
)


@given(HINTS)
def test_a_hint_survives_the_way(hint: Hint) -> None:
    assert hints.decode(hints.encode(hint)) == hint


@given(st.binary())
def test_noise_is_no_hint_and_no_failure(payload: bytes) -> None:
    hints.decode(payload)


@given(HINTS, st.data())
def test_a_broken_hint_is_no_failure(hint: Hint, data: st.DataObject) -> None:
    payload = bytearray(hints.encode(hint))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    hints.decode(bytes(payload))


@pytest.mark.parametrize("payload", [b"", b"\n", b"e", b"z 1 2\n{}", b"\xff\xfe\n{}", b"e " + UUID(int=1).hex.encode()])
def test_what_another_version_says_is_passed_over(payload: bytes) -> None:
    assert hints.decode(payload) is None
