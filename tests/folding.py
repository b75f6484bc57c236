"""A client that keeps a user's state by folding events into it, as an SDK does.

What it does at each event is what docs/guides/state.md tells a client to do.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.api import Api

State = dict[str, Any]


def _countable(message: Mapping[str, Any], own_id: str) -> bool:
    """Whether a message can be unread for this user."""
    return message["type"] != "system" and not message["silent"] and message["senderId"] != own_id


@dataclass
class Client:
    """One user's device. `conversations` holds by id the conversation as listed, its messages by seq, and its pins."""

    user_id: str
    api: Api
    conversations: dict[str, State] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)

    def fetch(self) -> None:
        """Reads everything anew."""
        self.blocked = {one["userId"] for one in self.api.get(f"/users/{self.user_id}/blocks").data}
        listed = self.api.get("/conversations", {"limit": 100, "hidden": "include"})
        assert not listed.pagination["hasMore"]
        self.conversations = {one["id"]: self._read(one) for one in listed.data}

    def _read(self, conversation: State) -> State:
        messages: list[State] = []
        while True:
            after = messages[-1]["seq"] if messages else 0
            page = self.api.get(
                f"/messages/conversations/{conversation['id']}", {"limit": 100, "afterSeq": after}
            ).data["messages"]
            if not page:
                break
            messages += page
        pins = self.api.get(f"/conversations/{conversation['id']}/pins").data
        return {
            "conversation": conversation,
            "messages": {message["seq"]: message for message in messages},
            "pins": [pin["id"] for pin in pins],
        }

    # --- events -----------------------------------------------------------------------------------------------------

    def fold(self, type_: str, data: Mapping[str, Any]) -> None:
        data = deepcopy(dict(data))
        if type_ == "conversation_created":
            conversation_id = data["conversation"]["id"]
            if conversation_id not in self.conversations:
                answer = self.api.get(f"/conversations/{conversation_id}")
                if answer.status == 200:  # gone again meanwhile: its removal follows
                    self.conversations[conversation_id] = self._read(answer.data)
            return
        if type_ in {"user_blocked", "user_unblocked"}:
            self._fold_block(type_, data)
            return
        held = self.conversations.get(data["conversationId"])
        if held is None:
            return
        if type_ == "conversation_removed":
            del self.conversations[data["conversationId"]]
            return
        if "seq" in data:
            if data["seq"] <= held["conversation"]["lastSeq"]:
                return  # what was fetched holds it already
            assert data["seq"] == held["conversation"]["lastSeq"] + 1, "a hole"
            held["conversation"]["lastSeq"] = data["seq"]
        getattr(self, f"_{type_}")(held, data)
        self._take_membership(held)
        self._refresh_last(held)

    def _fold_block(self, type_: str, data: Mapping[str, Any]) -> None:
        if type_ == "user_unblocked":
            self.blocked.discard(data["userId"])
            self.fetch()  # what was hidden was never told: it is read again
            return
        self.blocked.add(data["userId"])
        for held in self.conversations.values():
            gone = {seq for seq, message in held["messages"].items() if message["senderId"] == data["userId"]}
            ids = {held["messages"].pop(seq)["id"] for seq in gone}
            held["pins"] = [pin for pin in held["pins"] if pin not in ids]
            self._refresh_last(held)

    def _event_hidden(self, held: State, data: State) -> None:
        pass

    def _new_message(self, held: State, data: State) -> None:
        message, conversation = data["message"], held["conversation"]
        held["messages"][data["seq"]] = message
        conversation["messageCount"] += 1
        conversation["lastMessageAt"] = message["createdAt"]
        conversation["membership"]["hidden"] = False
        self._count_replies(held, message)
        if message["senderId"] == self.user_id:
            conversation["membership"] |= {"lastReadSeq": data["seq"], "unreadCount": 0}
        elif _countable(message, self.user_id) and message["deletedAt"] is None:
            conversation["membership"]["unreadCount"] += 1

    def _message_updated(self, held: State, data: State) -> None:
        message = self._find(held, data["messageId"])
        if message is not None:
            mine = {one["name"] for one in message["reactions"] if one["me"]}
            message |= data["message"]
            for one in message["reactions"]:
                one["me"] = one["name"] in mine
            self._count_replies(held, message)

    def _message_deleted(self, held: State, data: State) -> None:
        message = self._find(held, data["messageId"])
        if message is not None and message["deletedAt"] is None:
            membership = held["conversation"]["membership"]
            if message["seq"] > membership["lastReadSeq"] and _countable(message, self.user_id):
                membership["unreadCount"] -= 1
        self._message_updated(held, data)
        held["pins"] = [pin for pin in held["pins"] if pin != data["messageId"]]

    def _message_pinned(self, held: State, data: State) -> None:
        held["pins"] = [data["messageId"], *(pin for pin in held["pins"] if pin != data["messageId"])]

    def _message_unpinned(self, held: State, data: State) -> None:
        held["pins"] = [pin for pin in held["pins"] if pin != data["messageId"]]

    def _reaction_added(self, held: State, data: State) -> None:
        self._react(held, data, me=True)

    def _reaction_removed(self, held: State, data: State) -> None:
        self._react(held, data, me=False)

    def _react(self, held: State, data: State, *, me: bool) -> None:
        message = self._find(held, data["messageId"])
        if message is None or message["deletedAt"] is not None:
            return
        one = next((one for one in message["reactions"] if one["name"] == data["name"]), None)
        if one is None:
            one = {"name": data["name"], "count": 0, "me": False}
            message["reactions"].append(one)
        one["count"] = data["count"]
        if data["userId"] == self.user_id:
            one["me"] = me
        message["reactions"] = [one for one in message["reactions"] if one["count"]]

    def _conversation_updated(self, held: State, data: State) -> None:
        held["conversation"] |= data["conversation"]

    def _participant_added(self, held: State, data: State) -> None:
        self._place(held, data, data["participant"])

    def _participant_updated(self, held: State, data: State) -> None:
        self._place(held, data, data["participant"])
        if data["userId"] == self.user_id:
            held["conversation"]["membership"]["role"] = data["participant"]["role"]

    def _participant_removed(self, held: State, data: State) -> None:
        held["conversation"]["participantCount"] = data["participantCount"]
        people = held["conversation"]["participants"]
        held["conversation"]["participants"] = [one for one in people if one["userId"] != data["userId"]]

    def _place(self, held: State, data: State, place: State) -> None:
        conversation = held["conversation"]
        conversation["participantCount"] = data.get("participantCount", conversation["participantCount"])
        known = [one for one in conversation["participants"] if one["userId"] == data["userId"]]
        if known:
            known[0]["role"] = place["role"]
        else:
            conversation["participants"].append(place)

    def _unread_updated(self, held: State, data: State) -> None:
        if data["lastSeq"] == held["conversation"]["lastSeq"]:
            held["conversation"]["membership"] |= {
                "lastReadSeq": data["lastReadSeq"],
                "unreadCount": data["unreadCount"],
            }
        else:
            self._read_membership(held)

    def _conversation_read(self, held: State, data: State) -> None:
        pass  # the readers' positions are the onlookers' business, not this law's

    def _conversation_delivered(self, held: State, data: State) -> None:
        pass  # no more than that

    def _membership_updated(self, held: State, data: State) -> None:
        if data["lastSeq"] == held["conversation"]["lastSeq"]:
            held["conversation"]["membership"] = data["membership"]
        else:
            self._read_membership(held)

    def _read_membership(self, held: State) -> None:
        """What was told belongs to another point of the log than where this client is."""
        answer = self.api.get(f"/conversations/{held['conversation']['id']}")
        if answer.status == 200:  # otherwise its removal follows
            held["membershipAt"] = (answer.data["lastSeq"], answer.data["membership"])
            self._take_membership(held)

    @staticmethod
    def _take_membership(held: State) -> None:
        """What was read of the membership holds once the events have come that far."""
        seq, membership = held.get("membershipAt", (None, None))
        if seq == held["conversation"]["lastSeq"]:
            held["conversation"]["membership"] = membership
            del held["membershipAt"]

    # --- what follows from others -----------------------------------------------------------------------------------

    @staticmethod
    def _find(held: State, message_id: str) -> State | None:
        return next((message for message in held["messages"].values() if message["id"] == message_id), None)

    @staticmethod
    def _count_replies(held: State, said: State) -> None:
        """Every message of a thread shows the thread's count."""
        root_id = said["threadId"] or said["id"]
        for message in held["messages"].values():
            if root_id in {message["id"], message["threadId"]}:
                message["replyCount"] = said["replyCount"]

    @staticmethod
    def _refresh_last(held: State) -> None:
        last = max(held["messages"], default=None)
        held["conversation"]["lastMessage"] = None if last is None else held["messages"][last]

    # --- comparing --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What the law compares. Left out: `status` and the participants' read positions, which are told to onlookers
        only; and, for who blocks somebody, what only the hidden messages would tell (counts and the last time)."""
        shown = deepcopy(self.conversations)
        for held in shown.values():
            assert "membershipAt" not in held
            conversation = held["conversation"]
            conversation["participantIds"] = sorted(one["userId"] for one in conversation["participants"])
            conversation["participants"] = sorted(
                (
                    {name: one[name] for name in one if not name.startswith("last")}
                    for one in conversation["participants"]
                ),
                key=lambda one: one["userId"],
            )
            for message in (*held["messages"].values(), conversation["lastMessage"] or {}):
                message.pop("status", None)
                message.get("reactions", []).sort(key=lambda one: one["name"])
                if self.blocked:
                    message.pop("replyCount", None)
            if self.blocked:
                for name in ("messageCount", "lastMessageAt"):
                    conversation.pop(name)
                conversation["membership"].pop("hidden")
        return shown
