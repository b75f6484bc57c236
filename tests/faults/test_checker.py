"""The checker itself: it passes what is whole and finds each kind of harm that is planted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.faults.checker import check
from tests.faults.recorder import Entry, Recorder, read_records
from tests.faults.truth import Log, LogEntry, Truth

ROOM, ANN, BEN, EVE = "room", "ann", "ben", "eve"


def message(seq: int, author: str = BEN) -> LogEntry:
    return LogEntry("new_message", f"message-{seq}", author, f"key-{seq}")


def truth(entries: dict[int, LogEntry] | None = None, *, purged: int = 0, visible_from: int = 1) -> Truth:
    """A room of ann, ben and eve; without `entries` six messages of ben's."""
    entries = {seq: message(seq) for seq in range(1, 7)} if entries is None else entries
    log = Log(entries, max(entries, default=purged), purged)
    return Truth({ROOM: log}, {ROOM: {ANN: visible_from, BEN: 1, EVE: 1}})


def began(user: str = ANN, *blocks: str) -> Entry:
    return line("began", user=user, blocks=list(blocks))


def line(what: str, **facts: Any) -> Entry:
    return {"at": 0.0, "what": what, **facts}


def opened() -> Entry:
    return line("opened", connection=1, door="")


def announced(last_seq: int = 0) -> Entry:
    return line("announced", conversation=ROOM, lastSeq=last_seq)


def resumed(**outcome: Any) -> Entry:
    return line("resumed", connection=1, conversations={ROOM: outcome} if outcome else {})


def ended() -> Entry:
    return line("ended", connection=1, code=1006, reason="", by="cut")


def events(*seqs: int, type_: str = "new_message") -> list[Entry]:
    return [line("event", conversation=ROOM, seq=seq, type=type_, subject=f"message-{seq}") for seq in seqs]


def sent(key: str = "key-1", seq: int | None = 1, **outcome: Any) -> list[Entry]:
    """A send of ben's: with a seq it was acknowledged, with an outcome it ended so, otherwise nobody knows."""
    tried = line("tries", key=key, deed="send", user=BEN, conversation=ROOM, about=ROOM, by="socket")
    if outcome:
        return [tried, line(key=key, **outcome)]
    return [tried] if seq is None else [tried, line("done", key=key, message=f"message-{seq}", seq=seq)]


SENDS = [entry for seq in range(1, 7) for entry in sent(f"key-{seq}", seq)]
WHOLE = [began(), opened(), announced(), resumed(), *events(1, 2, 3)]
RESUMED = [ended(), opened(), *events(4, 5, 6), resumed(seq=6, complete=True)]


def problems(*record: Entry, logs: Truth | None = None, sends: list[Entry] | None = None) -> list[str]:
    records = {"ann": record, "ben": [began(BEN), *(SENDS if sends is None else sends)]}
    return check(records, truth() if logs is None else logs)


def finds(found: list[str], *words: str) -> None:
    """Exactly one problem, that says all of these words."""
    assert len(found) == 1, found
    assert [word for word in words if word not in found[0]] == [], found


# --- views ----------------------------------------------------------------------------------------------------------


def test_a_view_over_two_connections_that_is_the_log_passes() -> None:
    assert problems(*WHOLE, *RESUMED) == []


def test_a_gap_is_found() -> None:
    record = [*WHOLE, ended(), opened(), *events(5, 6), resumed(seq=6, complete=True)]
    assert len(found := problems(*record)) == 2
    assert "has a gap: 3 is followed by 5" in found[0]
    assert "jumps from 3 to 5; `resumed` says None" in found[1]


def test_a_gap_behind_resumed_is_found() -> None:
    found = problems(*WHOLE, *events(5, 6))
    assert any("has a gap: 3 is followed by 5" in problem for problem in found)


def test_a_gap_that_only_resumed_claims_is_found() -> None:
    """The server may not excuse what the log does not."""
    outcome = resumed(seq=6, complete=False, truncatedBefore=5, reason="membership")
    finds(problems(*WHOLE, ended(), opened(), *events(5, 6), outcome), "has a gap: 3 is followed by 5")


def test_a_repeat_is_found() -> None:
    finds(problems(*WHOLE, *events(3, 4, 5, 6)), "#3 comes again or late: 3 was there")


def test_a_repeat_after_resuming_is_found() -> None:
    record = [*WHOLE, ended(), opened(), *events(3, 4, 5, 6), resumed(seq=6, complete=True)]
    finds(problems(*record), "#3 comes again or late: 3 was there")


def test_a_reordering_is_found() -> None:
    found = problems(*WHOLE, *events(5, 4, 6))
    assert any("has a gap: 3 is followed by 5" in problem for problem in found)
    assert any("#4 comes again or late" in problem for problem in found)


def test_a_missing_end_is_found() -> None:
    finds(problems(*WHOLE, *events(4, 5)), f"saw {ROOM} up to 5; its log ends at 6")


def test_a_client_that_is_away_at_the_end_need_not_have_everything() -> None:
    assert problems(*WHOLE, ended()) == []
    assert problems(*WHOLE, ended(), opened(), *events(4)) == []


def test_resumed_may_not_claim_what_did_not_come() -> None:
    found = problems(*WHOLE, ended(), opened(), *events(4), resumed(seq=6, complete=True))
    finds(found, "resumed to 6, but 4 is the last that came")


def test_a_conversation_that_was_never_announced_is_found() -> None:
    found = problems(began(), opened(), resumed())
    finds(found, f"never learnt of {ROOM}")
    found = problems(began(), opened(), resumed(), *events(6))
    assert [found[0].split(": ", 2)[2], found[1].split(": ", 1)[1]] == [
        f"{ROOM}#6 of a conversation that was never announced",
        f"never learnt of {ROOM}",
    ]


def test_a_conversation_that_is_announced_again_is_found() -> None:
    finds(problems(*WHOLE, *events(4, 5, 6), announced(6)), "announced to who holds 6")


def test_a_removal_that_nobody_was_told_of_is_found() -> None:
    logs = Truth(truth().logs, {ROOM: {BEN: 1}})
    finds(problems(*WHOLE, *events(4, 5, 6), logs=logs), f"never learnt that {ROOM} is gone")
    removed = line("removed", conversation=ROOM, reason="removed")
    assert problems(*WHOLE, *events(4, 5, 6), removed, logs=logs) == []
    assert problems(*WHOLE, *events(4, 5, 6), removed, removed, logs=logs) == [], "it is current state"
    assert problems(*WHOLE, ended(), opened(), resumed(seq=3, complete=False, reason="removed"), logs=logs) == []


def test_the_wrong_event_at_a_seq_is_found() -> None:
    found = problems(*WHOLE, *events(4), *events(5, type_="message_deleted"), *events(6))
    finds(found, "#5 is message_deleted of message-5; the log has new_message of message-5")


def test_an_event_that_is_not_in_the_log_is_found() -> None:
    found = problems(*WHOLE, *events(4, 5, 6, 7))
    assert found == [
        f"ann: 0.0: {ROOM}#7 (new_message) is not in the log",
        f"ann: saw {ROOM} up to 7; its log ends at 6",
    ]


# --- coming and going, retention ------------------------------------------------------------------------------------

BACK = {seq: message(seq) for seq in (1, 2, 3, 6)} | {
    4: LogEntry("participant_removed", ANN, None),
    5: LogEntry("participant_added", ANN, None),
}
BACK_SENDS = [entry for seq in (1, 2, 3, 6) for entry in sent(f"key-{seq}", seq)]


def arrival(seq: int, user: str = ANN) -> Entry:
    return line("event", conversation=ROOM, seq=seq, type="participant_added", subject=user)


def test_who_comes_back_without_the_history_goes_on_at_the_return() -> None:
    outcome = resumed(seq=6, complete=False, truncatedBefore=5, reason="membership")
    record = [*WHOLE, ended(), opened(), arrival(5), *events(6), outcome]
    assert problems(*record, logs=truth(BACK, visible_from=5), sends=BACK_SENDS) == []
    unsaid = [*record[:-1], resumed(seq=6, complete=True)]
    finds(problems(*unsaid, logs=truth(BACK), sends=BACK_SENDS), "jumps from 3 to 5; `resumed` says None")


def test_who_was_cut_while_resuming_may_go_on_behind_the_jump() -> None:
    again = [ended(), opened(), *events(6), resumed(seq=6, complete=True)]
    record = [*WHOLE, ended(), opened(), arrival(5), *again]
    assert problems(*record, logs=truth(BACK, visible_from=5), sends=BACK_SENDS) == []


def test_who_was_told_of_the_removal_begins_anew() -> None:
    gone = [line("event", conversation=ROOM, seq=4, type="participant_removed", subject=ANN)]
    gone += [line("removed", conversation=ROOM, reason="removed"), announced(5), arrival(5), *events(6)]
    assert problems(*WHOLE, *gone, logs=truth(BACK), sends=BACK_SENDS) == []


def test_what_retention_took_may_be_passed_over_where_resumed_says_so() -> None:
    logs = truth({seq: message(seq) for seq in (5, 6)}, purged=4)
    sends = SENDS[8:]
    outcome = resumed(seq=6, complete=False, truncatedBefore=5, reason="retention")
    assert problems(*WHOLE, ended(), opened(), *events(5, 6), outcome, logs=logs, sends=sends) == []
    found = problems(*WHOLE, ended(), opened(), *events(6), outcome, logs=logs, sends=sends)
    assert any("has a gap: 3 is followed by 6" in problem for problem in found)
    nothing_left = truth({}, purged=6)
    outcome = resumed(seq=6, complete=False, truncatedBefore=7, reason="retention")
    assert problems(*WHOLE, ended(), opened(), outcome, logs=nothing_left, sends=[]) == []


# --- whom they block ------------------------------------------------------------------------------------------------


def test_events_are_hidden_for_those_who_block_and_for_nobody_else() -> None:
    hidden = line("event", conversation=ROOM, seq=4, type="event_hidden", subject=None)
    finds(problems(*WHOLE, hidden, *events(5, 6)), "#4 is hidden, though ben was never blocked")
    first = [began(ANN, BEN), opened(), announced(3), resumed()]
    all_hidden = [line("event", conversation=ROOM, seq=seq, type="event_hidden", subject=None) for seq in (4, 5, 6)]
    assert problems(*first, *all_hidden) == []
    finds(problems(*first, *all_hidden[:2], *events(6)), "#6 is shown, though ben is blocked")
    tries = line("tries", key="b", deed="block", user=ANN, conversation="", about=BEN, by="rest")
    assert problems(*WHOLE, tries, hidden, *events(5, 6)) == [], "who blocked in between may see either"


# --- sends ----------------------------------------------------------------------------------------------------------


def test_a_lost_acknowledged_message_is_found() -> None:
    found = problems(*WHOLE, *RESUMED, sends=[*SENDS, *sent("key-7", 7)])
    finds(found, "key-7 was acknowledged as", "the log has []")


def test_a_message_that_is_there_twice_is_found() -> None:
    twice = {seq: message(seq) for seq in range(1, 6)} | {6: LogEntry("new_message", "message-6", BEN, "key-5")}
    found = problems(*WHOLE, *RESUMED, logs=truth(twice), sends=SENDS[:10])
    assert any("key-5 was sent once and is there 2 times" in problem for problem in found)


def test_an_acknowledgement_of_another_place_is_found() -> None:
    sends = [*SENDS[:10], sent("key-6", 5)[0], line("done", key="key-6", message="message-6", seq=5)]
    finds(problems(*WHOLE, *RESUMED, sends=sends), "key-6 was acknowledged as", "'room', 5", "'room', 6")


def test_a_message_that_was_refused_and_is_there_is_found() -> None:
    refused = sent("key-6", what="refused", code="permission_denied", attempts=1)
    finds(problems(*WHOLE, *RESUMED, sends=[*SENDS[:10], *refused]), "key-6 was refused for good (permission_denied)")
    refused = sent("key-6", what="refused", code="permission_denied", attempts=2)
    assert problems(*WHOLE, *RESUMED, sends=[*SENDS[:10], *refused]) == [], "the first attempt may have done it"


def test_a_message_of_which_nobody_knows_is_there_or_not() -> None:
    assert problems(*WHOLE, *RESUMED, sends=[*SENDS[:10], *sent("key-6", None)]) == []
    assert problems(*WHOLE, *RESUMED, sends=[*SENDS, *sent("key-7", None)]) == []


def test_a_phantom_is_found() -> None:
    finds(problems(*WHOLE, *RESUMED, sends=SENDS[:10]), "key-6 is in the log, and nobody sent it")


def test_a_deed_that_left_nothing_is_found() -> None:
    tries = line("tries", key="d", deed="delete", user=BEN, conversation=ROOM, about="message-2", by="rest")
    done = line("done", key="d", message=None, seq=None)
    found = problems(*WHOLE, *RESUMED, sends=[*SENDS, tries, done])
    finds(found, "d: delete was acknowledged and has left no message_deleted")
    assert problems(*WHOLE, *RESUMED, sends=[*SENDS, tries]) == []


def test_what_a_deletion_ended_leaves_nothing_to_take_back() -> None:
    unpin = [line("tries", key="u", deed="unpin", user=BEN, conversation=ROOM, about="message-2", by="rest")]
    unpin += [line("done", key="u", message=None, seq=None)]
    found = problems(*WHOLE, *RESUMED, sends=[*SENDS, *unpin])
    finds(found, "u: unpin was acknowledged and has left no message_unpinned")
    deleted = {seq: message(seq) for seq in range(1, 6)} | {6: LogEntry("message_deleted", "message-2", BEN)}
    record = [
        *WHOLE,
        *events(4, 5),
        line("event", conversation=ROOM, seq=6, type="message_deleted", subject="message-2"),
    ]
    assert problems(*record, logs=truth(deleted), sends=[*SENDS[:10], *unpin]) == []


def test_a_log_with_a_hole_is_found() -> None:
    holed = {seq: message(seq) for seq in (1, 2, 3, 5, 6)}
    found = problems(began(), sends=[*SENDS[:6], *SENDS[8:]], logs=truth(holed))
    finds(found, "the log of room is not dense: [4]")


def test_a_log_whose_time_goes_back_is_found() -> None:
    entries = {seq: replace(message(seq), recorded_at=10.0 * seq) for seq in range(1, 7)}
    assert problems(*WHOLE, *RESUMED, logs=truth(entries)) == []
    entries[5] = replace(entries[5], recorded_at=39.5)
    finds(problems(*WHOLE, *RESUMED, logs=truth(entries)), "the time of room's log goes back at 5, by 0.5 s")


def test_what_clients_say_themselves_is_found() -> None:
    invalid, gave_up = line("invalid", problem="no seq"), line("gave_up", code=4003, reason="refused")
    assert problems(*WHOLE, *RESUMED, invalid, gave_up) == [
        "ann: 0.0: not as the catalogue says: no seq",
        "ann: 0.0: was told not to come back: 4003 refused",
    ]


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    for name in ("ann", "ben"):
        recorder = Recorder(tmp_path / f"{name}.jsonl")
        recorder.note("began", user=name, blocks=["大厅"])
        recorder.note("event", conversation=ROOM, seq=1)
        recorder.close()
    records = read_records(tmp_path)
    assert list(records) == ["ann", "ben"]
    assert [entry["what"] for entry in records["ben"]] == ["began", "event"]
    assert records["ann"][0]["blocks"] == ["大厅"]
    assert json.loads((tmp_path / "ben.jsonl").read_text("utf-8").splitlines()[1])["seq"] == 1
