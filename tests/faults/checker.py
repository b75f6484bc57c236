"""What a recorded scenario must hold to, as pure functions of the records and of what the database says at the end.

A client's *view* of a conversation is what it was sent of it over all its connections, one after the other. It begins
where `conversation_created` says and ends with `conversation_removed`; who comes back begins another. Each view is a
run of the log: every seq once, in order; nothing may be missing but what `resumed` says is not to be had, and there
only what the log itself says was not this user's. A view that is still open reaches the log's end.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.faults.recorder import Entry
from tests.faults.truth import Log, LogEntry, Truth


def check(records: Mapping[str, Sequence[Entry]], truth: Truth) -> list[str]:
    """Every violation, in words; none: the scenario held."""
    blocks = _Blocks.of(records)
    found = [*_check_logs(truth)]
    for name, record in records.items():
        found += [f"{name}: {problem}" for problem in _check_record(record, truth, blocks)]
    return [*found, *_check_deeds(records, truth)]


def _check_logs(truth: Truth) -> Iterator[str]:
    for conversation, log in truth.logs.items():
        expected = list(range(log.purged_seq + 1, log.last_seq + 1))
        if sorted(log.entries) != expected:
            missing = sorted(set(expected) ^ set(log.entries))
            yield f"the log of {conversation} is not dense: {missing[:10]}"
        times = [(log.entries[seq].recorded_at, seq) for seq in sorted(log.entries)]
        for (before, _), (after, seq) in pairwise(times):
            if after < before:
                yield f"the time of {conversation}'s log goes back at {seq}, by {before - after} s"


# --- what a client saw ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _View:
    """`last` is None until the first event comes, which may be any up to the one behind `announced_end`."""

    announced_end: int
    last: int | None = None

    @property
    def holds(self) -> int:
        return self.announced_end if self.last is None else self.last


@dataclass(slots=True)
class _Jump:
    """Seqs that were passed over; excused if `resumed` says so before the connection ends."""

    conversation: str
    after: int
    to: int
    at: float


@dataclass(slots=True)
class _Watching:
    """The state of one record while it is read."""

    user: str = ""
    views: dict[str, _View] = field(default_factory=dict)
    jumps: list[_Jump] = field(default_factory=list)
    is_complete: bool = False
    connection: int = 0


def _check_record(record: Sequence[Entry], truth: Truth, blocks: "_Blocks") -> Iterator[str]:
    state = _Watching()
    for entry in record:
        match entry["what"]:
            case "began":
                state.user = entry["user"]
            case "opened":
                state.connection, state.is_complete = entry["connection"], False
            case "announced":
                yield from _announced(state, entry)
            case "event":
                yield from _event(state, entry, truth, blocks)
            case "removed":
                # Current state: to be told so twice, or of what was never announced, changes nothing.
                state.views.pop(entry["conversation"], None)
            case "resumed":
                yield from _resumed(state, entry, truth)
            case "ended":
                state.is_complete = False
                # Who was cut in the middle of resuming never hears the reason; the log has it (`_event`).
                state.jumps.clear()
            case "invalid":
                yield f"{entry['at']}: not as the catalogue says: {entry['problem']}"
            case "gave_up":
                yield f"{entry['at']}: was told not to come back: {entry['code']} {entry['reason']}"
    if state.user and state.is_complete:
        yield from _check_end(state, truth)


def _announced(state: _Watching, entry: Entry) -> Iterator[str]:
    conversation = entry["conversation"]
    if conversation in state.views:
        yield f"{entry['at']}: {conversation} announced to who holds {state.views[conversation].holds} of it"
    state.views[conversation] = _View(entry["lastSeq"])


def _event(state: _Watching, entry: Entry, truth: Truth, blocks: "_Blocks") -> Iterator[str]:
    conversation, seq, at = entry["conversation"], entry["seq"], entry["at"]
    view = state.views.get(conversation)
    if view is None:
        yield f"{at}: {conversation}#{seq} of a conversation that was never announced"
        return
    log = truth.logs.get(conversation)
    if view.last is None and seq <= view.announced_end + 1:
        pass
    elif seq <= view.holds:
        yield f"{at}: {conversation}#{seq} comes again or late: {view.holds} was there"
        return
    elif seq > view.holds + 1:
        if log is not None and not _may_begin(log, seq, state.user):
            yield f"{at}: {conversation} has a gap: {view.holds} is followed by {seq}"
        state.jumps.append(_Jump(conversation, view.holds, seq, at))
    view.last = seq
    if log is not None and seq > log.purged_seq:
        yield from _check_content(entry, log.entries.get(seq), blocks, state)


def _may_begin(log: Log, seq: int, user: str) -> bool:
    """Whether a view that had come to an end may go on there: the user came in there, or retention cut there."""
    return log.is_arrival(seq, user) or seq <= log.purged_seq + 1


def _check_content(entry: Entry, truth: LogEntry | None, blocks: "_Blocks", state: _Watching) -> Iterator[str]:
    where = f"{entry['at']}: {entry['conversation']}#{entry['seq']}"
    if truth is None:
        yield f"{where} ({entry['type']}) is not in the log"
    elif entry["type"] == "event_hidden":
        if truth.author not in blocks.ever(state.user):
            yield f"{where} is hidden, though {truth.author} was never blocked"
    elif (entry["type"], entry["subject"]) != (truth.type, truth.subject if entry["subject"] else None):
        yield f"{where} is {entry['type']} of {entry['subject']}; the log has {truth.type} of {truth.subject}"
    elif truth.author in blocks.always(state.user):
        yield f"{where} is shown, though {truth.author} is blocked"


def _resumed(state: _Watching, entry: Entry, truth: Truth) -> Iterator[str]:
    state.is_complete = True
    outcomes = entry["conversations"]
    for conversation, outcome in outcomes.items():
        if outcome.get("reason") == "removed":
            state.views.pop(conversation, None)
            continue
        view = state.views.get(conversation)
        if view is None:
            continue  # it went while it was being resumed
        if view.holds < outcome["seq"]:
            before = outcome.get("truncatedBefore")
            log = truth.logs.get(conversation)
            if before != outcome["seq"] + 1 or (log is not None and not _may_begin(log, before, state.user)):
                said = f"resumed to {outcome['seq']}, but {view.holds} is the last that came"
                yield f"{entry['at']}: {conversation} {said}"
            view.last, view.announced_end = None, outcome["seq"]
        if outcome["complete"] and "truncatedBefore" in outcome:
            yield f"{entry['at']}: {conversation} is complete and truncated: {outcome}"
    for jump in state.jumps:
        said = outcomes.get(jump.conversation, {}).get("truncatedBefore")
        if said != jump.to:
            yield f"{jump.at}: {jump.conversation} jumps from {jump.after} to {jump.to}; `resumed` says {said}"
    state.jumps.clear()


def _check_end(state: _Watching, truth: Truth) -> Iterator[str]:
    """Of a client that is connected at the end."""
    for jump in state.jumps:
        yield f"{jump.at}: {jump.conversation} jumps from {jump.after} to {jump.to} behind `resumed`"
    theirs = truth.conversations_of(state.user)
    for conversation in sorted(theirs - state.views.keys()):
        yield f"never learnt of {conversation}"
    for conversation in sorted(state.views.keys() - theirs):
        yield f"never learnt that {conversation} is gone"
    for conversation in sorted(theirs & state.views.keys()):
        last, end = state.views[conversation].holds, truth.logs[conversation].last_seq
        if last != end:
            yield f"saw {conversation} up to {last}; its log ends at {end}"


# --- whom they block ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Blocks:
    """By user: whom they ever tried to block, and whom they blocked before their first connection and for good."""

    tried: Mapping[str, frozenset[str]]
    lasting: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, records: Mapping[str, Sequence[Entry]]) -> "_Blocks":
        deeds = [entry for record in records.values() for entry in record if entry["what"] == "tries"]
        blocked = {(entry["user"], entry["about"]) for entry in deeds if entry["deed"] == "block"}
        unblocked = {(entry["user"], entry["about"]) for entry in deeds if entry["deed"] == "unblock"}
        before = {
            (entry["user"], entry["blocks"])
            for record in records.values()
            for entry in record
            if entry["what"] == "began"
            for entry in ({"user": entry["user"], "blocks": one} for one in entry.get("blocks", ()))
        }
        return cls(_grouped(blocked | before), _grouped(before - unblocked))

    def ever(self, user: str) -> frozenset[str]:
        return self.tried.get(user, frozenset())

    def always(self, user: str) -> frozenset[str]:
        return self.lasting.get(user, frozenset())


def _grouped(pairs: set[tuple[str, str]]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for one, other in pairs:
        found.setdefault(one, set()).add(other)
    return {one: frozenset(others) for one, others in found.items()}


# --- what was done --------------------------------------------------------------------------------------------------

LEAVES = {
    "edit": "message_updated",
    "delete": "message_deleted",
    "react": "reaction_added",
    "unreact": "reaction_removed",
    "pin": "message_pinned",
    "unpin": "message_unpinned",
    "add": "participant_added",
    "join": "participant_added",
    "remove": "participant_removed",
    "leave": "participant_removed",
}
"""The event that a deed leaves in the log, about what it was about."""
ENDED_BY_DELETION = {"unreact", "unpin"}
"""What there is nothing left of to take back, once the message is deleted."""


def _check_deeds(records: Mapping[str, Sequence[Entry]], truth: Truth) -> Iterator[str]:
    tried: dict[str, Entry] = {}
    ended: dict[str, Entry] = {}
    for record in records.values():
        for entry in record:
            if entry["what"] == "tries":
                tried.setdefault(entry["key"], entry)
            elif entry["what"] in {"done", "refused"}:
                ended[entry["key"]] = entry
    yield from _check_sends(tried, ended, truth)
    events = {
        (conversation, entry.type, entry.subject)
        for conversation, log in truth.logs.items()
        for entry in log.entries.values()
    }
    for key, entry in tried.items():
        type_ = LEAVES.get(entry["deed"])
        outcome = ended.get(key)
        if type_ is None or outcome is None or outcome["what"] != "done":
            continue
        conversation, about = entry["conversation"], entry["about"]
        if entry["deed"] in ENDED_BY_DELETION and (conversation, "message_deleted", about) in events:
            continue
        if conversation in truth.logs and (conversation, type_, about) not in events:
            yield f"{key}: {entry['deed']} was acknowledged and has left no {type_}"


def _check_sends(tried: Mapping[str, Entry], ended: Mapping[str, Entry], truth: Truth) -> Iterator[str]:
    """Acknowledged: there once, as the ack said. Refused for good: not there. Neither: there once or not at all."""
    stored: dict[str, list[tuple[str, int, LogEntry]]] = {}
    for conversation, log in truth.logs.items():
        for seq, message in log.entries.items():
            if message.client_message_id is not None:
                stored.setdefault(message.client_message_id, []).append((conversation, seq, message))
    sends = {key: entry for key, entry in tried.items() if entry["deed"] == "send"}
    for key, entry in sends.items():
        found, outcome = stored.get(key, []), ended.get(key)
        if len(found) > 1:
            yield f"{key} was sent once and is there {len(found)} times: {[(one, seq) for one, seq, _ in found]}"
        if outcome is None or entry["conversation"] not in truth.logs:
            continue
        # A refusal of a repeat says nothing of the first attempt, whose answer never came.
        if outcome["what"] == "refused" and outcome["attempts"] == 1 and found:
            yield f"{key} was refused for good ({outcome['code']}) and is there"
        if outcome["what"] == "done":
            said = (entry["conversation"], outcome["seq"], outcome["message"], entry["user"])
            there = [(one, seq, message.subject, message.author) for one, seq, message in found]
            if there != [said] and not _was_purged(truth.logs[entry["conversation"]], outcome["seq"]):
                yield f"{key} was acknowledged as {said}; the log has {there}"
    phantoms = Counter(key for key in stored if key not in sends)
    for key in phantoms:
        yield f"{key} is in the log, and nobody sent it"


def _was_purged(log: Log, seq: int) -> bool:
    return seq <= log.purged_seq
