"""Entries of logs as REST shows them: a conversation's events, and the items of the feed."""

from typing import Any

from messagecore.kernel import wire
from messaging.services.feed import FeedItem
from messaging.services.reading import LogEntry


def render_log_entry(entry: LogEntry) -> dict[str, Any]:
    return {"type": entry.type, "data": entry.data}


def render_feed_item(item: FeedItem) -> dict[str, Any]:
    return {
        "cursor": item.cursor,
        "type": item.type,
        "recordedAt": wire.timestamp(item.recorded_at),
        "conversationId": str(item.conversation_id),
        "conversationExternalId": item.conversation_external_id,
        "data": item.data,
    }
