"""Erasing a person leaves nothing of them: a word that they left wherever one can be is found nowhere afterwards."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.utils import timezone

from messaging.models import (
    Ban,
    HeldMessage,
    MessageReport,
    ScheduledMessage,
)
from messaging.tasks import index_messages, sweep_outbox, sweep_removals
from tenants.scope import tenant_scope
from tests import canary
from tests.accounts import Account, draft
from tests.api import Api

pytestmark = pytest.mark.core

WORD = "kanarienvogel"
OTHERS = "somebody else's"

# Tables that hold words, none of which a person leaves there.
NOT_OF_PERSONS = {
    "django_migrations",
    "messaging_conversation",  # its title and data are the conversation's, whoever set them
    "messaging_importfailure",  # of the integrator's import
    "messaging_importjob",
    "messaging_messagefilter",  # of the tenant
    "messaging_participant",  # a role
    "messaging_notificationpreferences",  # a level
}


def _upload(api: Api, data: str, name: str) -> Any:
    return api.raw("POST", "/files", data.encode(), content_type="text/plain", query={"name": name}).data


class Traces:
    """A person whose every word is the canary, everywhere."""

    def __init__(self, tenant: Account) -> None:
        api = tenant.api
        assert api.patch("/settings", {"membershipMessages": True}).status == 200
        self.person = tenant.user(
            f"{WORD}-id",
            displayName=f"{WORD} name",
            avatarUrl=f"https://example.com/{WORD}.png",
            email=f"{WORD}@example.com",
            metadata={WORD: WORD},
        )
        self.friend = tenant.user("friend")
        self.room = tenant.conversation(self.friend)
        api.post(f"/conversations/{self.room['id']}/participants", {"participantIds": [self.person["id"]]})
        self.as_person = tenant.user_api(self.person)
        self.as_friend = tenant.user_api(self.friend)
        root = tenant.message(self.room, self.friend, OTHERS)
        text = {"clientMessageId": f"{WORD}-1", "metadata": {WORD: WORD}, "replyToId": root["id"]}
        said = self._say(**text)
        self.as_person.patch(f"/messages/{said['id']}", {"content": {"text": f"{WORD} again", WORD: WORD}})
        self.as_person.post(f"/messages/{root['id']}/reactions", {"name": WORD})
        self.as_person.post(f"/messages/{said['id']}/reactions", {"name": WORD})
        self.as_person.delete(f"/messages/{said['id']}/reactions/{WORD}")
        api.put(f"/messages/{said['id']}/pin")
        gone = self._say(clientMessageId=f"{WORD}-2")
        self.as_person.delete(f"/messages/{gone['id']}")
        own = _upload(self.as_person, f"bytes of {WORD}", f"{WORD}.txt")
        self._say(type="file", content={"fileId": own["id"], "caption": WORD})
        _upload(self.as_person, f"never sent, {WORD}", f"{WORD} unused.txt")
        self.forwards(tenant)
        with tenant_scope(tenant):
            self._write_what_waits(said["id"], root["id"])
        sweep_outbox()
        index_messages()

    def _say(self, **fields: Any) -> Any:
        body = draft(self.room, None, f"{WORD} says") | fields
        return self.as_person.post("/messages/send", body).data

    def forwards(self, tenant: Account) -> None:
        """What somebody else forwards is theirs from then on, file and all."""
        file = _upload(self.as_person, f"bytes of {OTHERS} now", "forwarded.txt")
        message = self._say(type="file", content={"fileId": file["id"], "caption": OTHERS})
        elsewhere = tenant.conversation(self.friend)
        forward = self.as_friend.post(f"/messages/{message['id']}/forward", {"conversationId": elsewhere["id"]})
        self.forward, self.forwarded_file = forward.data, file

    def _write_what_waits(self, said_id: str, root_id: str) -> None:
        """Drafts, reports and bans: as their services write them."""
        person_id, room_id, now = self.person["id"], self.room["id"], timezone.now()
        content = {"type": "text", "content": {"text": WORD}}
        ScheduledMessage.objects.create(
            sender_id=person_id,
            conversation_id=room_id,
            draft=content,
            send_at=now + timedelta(days=1),
            created_at=now,
            updated_at=now,
        )
        HeldMessage.objects.create(
            sender_id=person_id,
            conversation_id=room_id,
            draft=content,
            client_message_id=f"{WORD}-held",
            body_digest=b"",
            created_at=now,
        )
        MessageReport.objects.create(
            message_id=root_id, reporter_id=person_id, reason="other", comment=WORD, created_at=now
        )
        Ban.objects.create(user_id=person_id, conversation_id=room_id, reason=f"{WORD} was rude", created_at=now)
        Ban.objects.create(user_id=self.friend["id"], reason=f"{WORD} says so", banned_by_id=person_id, created_at=now)


def test_a_word_left_everywhere_is_found_nowhere(tenant: Account, folder: Path) -> None:
    traces = Traces(tenant)
    schemas = [tenant.schema_name, "public"]
    planted = {table for table, _ in canary.columns_with(WORD, schemas)}
    tables = {table for _, table, _ in canary.columns_that_hold_words([tenant.schema_name])}
    assert tables - NOT_OF_PERSONS - planted == set(), "leave the word there, too, or say that no person can"
    assert len(canary.files_with(WORD, folder)) == 2

    assert tenant.api.delete(f"/users/{traces.person['id']}", {"messages": "erase"}).status == 200
    assert canary.columns_with(WORD, schemas) == []
    sweep_outbox()
    index_messages()
    sweep_removals()
    assert canary.columns_with(WORD, schemas) == [], "nor does it come back with what was promised before"
    assert canary.files_with(WORD, folder) == []
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        assert canary.keys_with(WORD, client) == []

    assert traces.as_friend.get(f"/messages/{traces.forward['id']}").data["content"]["caption"] == OTHERS
    kept = traces.as_friend.get(f"/files/{traces.forwarded_file['id']}")
    assert kept.data["ownerId"] == traces.friend["id"]
    content = traces.as_friend.get(f"/files/{traces.forwarded_file['id']}/content").content
    assert content.decode() == f"bytes of {OTHERS} now"
    history = traces.as_friend.get(f"/messages/conversations/{traces.room['id']}").data["messages"]
    assert OTHERS in [message["content"].get("text") for message in history]


def test_the_search_finds_what_there_is(tenant: Account, tmp_path: Path) -> None:
    """Otherwise finding nothing would say nothing."""
    tenant.user("ada", metadata={"deep": [{"er": f"x{WORD.upper()}x"}]})
    assert canary.columns_with(WORD, [tenant.schema_name]) == [("messaging_user", "metadata")]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"\x00" + WORD.encode() + b"\xff")
    (tmp_path / f"{WORD}.txt").write_bytes(b"")
    assert canary.files_with(WORD, tmp_path) == ["folder/a", f"{WORD}.txt"]
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        names = [f"canary-test-{number}" for number in range(6)]
        client.set(names[0], f"a {WORD}")
        client.hset(names[1], f"{WORD}", "x")
        client.sadd(names[2], "a", WORD)
        client.zadd(names[3], {WORD: 1})
        client.rpush(names[4], "a", WORD)
        client.xadd(names[5], {"a": WORD})
        try:
            assert sorted(canary.keys_with(WORD, client)) == names
        finally:
            client.delete(*names)
