"""`/search/messages`."""

from typing import Any

from messagecore.kernel.api.operations import CURSOR, Call, Param, limit_param, operation
from messagecore.kernel.api.paging import Page, page_of, time_and_id
from messagecore.kernel.errors import FieldError, ValidationFailed
from messaging import rendering
from messaging.access import access_conversation, find_acting_user, get_user
from messaging.models import MessageType
from messaging.queries.search import Place, Search
from messaging.search.words import wanted
from messaging.services.searching import Result, search_messages
from tenants.api.views import TenantView

MAX_QUERY = 200
MAX_RESULTS = 50
TYPES = tuple(value for value in MessageType.values if value != MessageType.SYSTEM)


class SearchMessages(TenantView):
    @operation(
        "searchMessages",
        summary="Search messages",
        tag="Messages",
        response="SearchResult",
        many=True,
        query=(
            Param("q", maximum=MAX_QUERY, required=True, description="The words; a message has to hold all of them."),
            Param("conversation", description="Only in this conversation, by either id."),
            Param("sender", description="Only what this user wrote, by either id."),
            Param("type", choices=TYPES, description="Only messages of this type."),
            Param("since", "timestamp", description="Only messages of this time or later."),
            Param("until", "timestamp", description="Only messages from before this time."),
            CURSOR,
            limit_param(20, MAX_RESULTS),
        ),
        errors=("user_not_found", "conversation_not_found", "invalid_cursor"),
        scope="messages:read",
        description=(
            "Newest first. As a user: in the conversations that they are in, from where they see them on, and nothing "
            "by those whom they block. A secret key that acts as nobody searches the whole tenant. What is new is "
            "found about a second later; what is deleted, or edited away, is not found from that moment on."
        ),
    )
    def get(self, call: Call) -> Page:
        query = call.query
        before = time_and_id(query["cursor"])
        found = search_messages(
            _search(call), before=None if before is None else Place(*before), limit=query["limit"] + 1
        )
        return page_of(
            found,
            limit=query["limit"],
            key=lambda result: (result.message.created_at.isoformat(), str(result.message.id)),
            render=_render,
        )


def _search(call: Call) -> Search:
    """Raises ValidationFailed, ConversationNotFound, UserNotFound."""
    query = call.query
    terms = wanted(query["q"])
    if not terms:
        raise ValidationFailed([FieldError("/q", "must hold a letter or a digit")])
    actor = find_acting_user(call.caller)
    access = None if query["conversation"] is None else access_conversation(query["conversation"], actor)
    return Search(
        wanted=terms,
        reader_id=None if actor is None else actor.id,
        conversation=None if access is None else (access.conversation.id, access.visible_from_seq),
        sender_id=None if query["sender"] is None else get_user(query["sender"]).id,
        type=query["type"],
        since=query["since"],
        until=query["until"],
    )


def _render(result: Result) -> dict[str, Any]:
    return {
        "message": rendering.render_message(result.message),
        "highlights": [
            {"field": one.field, "text": one.text, "ranges": [list(found) for found in one.ranges]}
            for one in result.highlights
        ],
    }
