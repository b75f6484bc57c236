"""How values of a tenant's rows look on the pages."""

import json
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from messaging.models import Conversation, User

EXCERPT_CHARACTERS = 120


def as_json(value: Any) -> SafeString:
    return format_html("<pre>{}</pre>", json.dumps(value, ensure_ascii=False, indent=2))


def excerpt_of(content: Any) -> str:
    """The beginning of a message's content on one line: its text, or the content as JSON."""
    text = content.get("text") if isinstance(content, dict) else None
    line = " ".join((text if isinstance(text, str) else json.dumps(content, ensure_ascii=False)).split())
    return line if len(line) <= EXCERPT_CHARACTERS else f"{line[:EXCERPT_CHARACTERS]}…"


def user_link(user: User | None) -> SafeString | str:
    if user is None:
        return "-"
    return format_html('<a href="{}">{}</a>', reverse("admin:messaging_user_change", args=[user.pk]), user)


def conversation_link(conversation: Conversation) -> SafeString:
    url = reverse("admin:messaging_conversation_change", args=[conversation.pk])
    return format_html('<a href="{}">{}</a>', url, conversation)
