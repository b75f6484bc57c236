"""How far the client is in each conversation: what `resume` says after a lost connection."""

from collections.abc import Mapping

from scripts.terminal.protocol import Frame, durable_events

MAX_NAMED = 10_000
"""Conversations that one `resume` may name; the others are announced."""


class Positions:
    """The last seq held, by conversation id, kept by watching frames go by."""

    def __init__(self, known: Mapping[str, int] | None = None) -> None:
        self._seqs = dict(known or {})

    def of(self, conversation_id: str) -> int | None:
        return self._seqs.get(conversation_id)

    def begin(self, conversation_id: str, seq: int) -> None:
        """What comes after `seq` is ours to hold. A position that is known already stays."""
        self._seqs.setdefault(conversation_id, seq)

    def observe(self, frame: Frame, *, answers: str | None = None) -> None:
        """`answers` is the type of the command that the frame answers, where it does."""
        kind, data = frame["type"], frame["data"]
        if kind == "ack":
            kind = {"join_conversation": "joined_conversation", "resume": "resumed"}.get(answers or "", kind)
        if kind in durable_events():
            self._advance(data["conversationId"], data["seq"])
        elif kind == "conversation_created":
            self.begin(data["conversation"]["id"], data["conversation"]["lastSeq"])
        elif kind == "joined_conversation":
            self.begin(data["conversationId"], data["lastSeq"])
        elif kind == "conversation_removed":
            self._seqs.pop(data["conversationId"], None)
        elif kind == "resumed":
            self._resumed(data["conversations"])

    def to_resume(self) -> dict[str, int]:
        return dict(list(self._seqs.items())[:MAX_NAMED])

    def _advance(self, conversation_id: str, seq: int) -> None:
        self._seqs[conversation_id] = max(seq, self._seqs.get(conversation_id, 0))

    def _resumed(self, conversations: Mapping[str, Frame]) -> None:
        for name, outcome in conversations.items():
            if name not in self._seqs:
                continue  # named otherwise than we name it, by hand
            if outcome.get("reason") == "removed":
                del self._seqs[name]
            elif outcome.get("reason") == "ahead":
                self._seqs[name] = outcome["seq"]
            else:
                self._advance(name, outcome["seq"])
