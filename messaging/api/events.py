"""The durable log: `/conversations/{id}/events`, and the tenant's feed, `/events`."""

from collections.abc import Iterator
from contextlib import contextmanager

from messagecore.kernel.api.operations import Call, Param, limit_param, operation
from messagecore.kernel.api.paging import Page
from messagecore.kernel.api.waiting import Awaited, NotYet
from messaging.access import access_conversation, find_acting_user
from messaging.api.users import require_integrator
from messaging.rendering_feed import render_feed_item, render_log_entry
from messaging.services import feed as services
from tenants import feed
from tenants.api.views import TenantView

MAX_EVENTS = 200
MAX_WAIT_S = 25


class ConversationEvents(TenantView):
    @operation(
        "listConversationEvents",
        summary="Read a conversation's events",
        tag="Events",
        response="LogEvent",
        many=True,
        pagination="LogPagination",
        query=(
            Param("after", "integer", default=0, maximum=2**53 - 1, description="Events with a larger seq."),
            limit_param(default=100, maximum=MAX_EVENTS),
        ),
        errors=("conversation_not_found", "user_not_found"),
        scope="messages:read",
        description=(
            "In order of seq, as the socket sends them. A user gets what they may see, from where their view begins; "
            "a secret key that acts as nobody the whole log. `nextCursor` is the next page's `after`."
        ),
    )
    def get(self, call: Call, conversationId: str) -> Page:  # noqa: N803 - the contract's name for the path
        access = access_conversation(conversationId, find_acting_user(call.caller))
        page = services.read_conversation_events(
            call.caller.tenant, access, after=call.query["after"], limit=call.query["limit"]
        )
        return Page(
            [render_log_entry(entry) for entry in page.entries],
            str(page.last_seq) if page.has_more else None,
            {"truncatedBefore": page.truncated_before, "reason": page.reason},
        )


class TenantEvents(TenantView):
    @contextmanager
    def entered(self, call: Call) -> Iterator[None]:
        """Without a transaction around it: what is numbered on the way is committed before it is read."""
        self.require_scope(call)
        yield

    @operation(
        "listEvents",
        summary="Read the tenant's feed of events",
        tag="Events",
        response="FeedItem",
        many=True,
        pagination="FeedPagination",
        query=(
            Param(
                "after",
                description="A cursor of the feed: what comes behind it. Without: from the oldest there is; "
                f"`{services.LATEST}`: nothing, and `nextCursor` is the present end.",
            ),
            limit_param(default=100, maximum=MAX_EVENTS),
            Param(
                "wait",
                "integer",
                default=0,
                maximum=MAX_WAIT_S,
                description="Seconds to wait for the next event where there is none.",
            ),
        ),
        errors=("permission_denied", "invalid_cursor", "cursor_expired"),
        scope="events:read",
        description=(
            "All conversations' durable events in one order that stays, a conversation's in order of seq. With a "
            "secret key only. Go on with `nextCursor`, which is always there."
        ),
    )
    def get(self, call: Call) -> Page | NotYet:
        require_integrator(call.caller)
        tenant, after, wait_s = call.caller.tenant, call.query["after"], call.query["wait"]
        found = services.read_feed(tenant, after=after, limit=call.query["limit"])
        page = Page([render_feed_item(item) for item in found.items], found.cursor, {"hasMore": found.has_more})
        if page.data or not wait_s or after == services.LATEST:
            return page
        return NotYet(page, Awaited(feed.find_ahead, found.position, tenant.id, wait_s))
