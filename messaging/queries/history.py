"""The fixed history route: pages by number and by cursor, always oldest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from messagecore.kernel import wire
from messagecore.kernel.errors import FieldError, Refusal, ValidationFailed
from messagecore.kernel.ids import find_uuid
from messaging.access import ConversationAccess, MessageNotFound
from messaging.queries import messages
from messaging.queries.messages import MessageView, Viewpoint

MAX_ROWS_BY_PAGE = 10_000


class PageTooDeep(Refusal):
    code = "page_too_deep"


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """`before` is a time or a message id, `around` a seq or a message id; at most one of the four anchors is set."""

    page: int
    limit: int
    before: str | None = None
    before_seq: int | None = None
    after_seq: int | None = None
    around: str | None = None

    @property
    def is_by_page(self) -> bool:
        """Whether page numbers go on from here; from a cursor the next cursor does."""
        return self.before_seq is None and self.after_seq is None and self.around is None


@dataclass(frozen=True, slots=True)
class History:
    """`messages` oldest first; `total` counts the conversation's messages whatever was asked; `has_more`: an older
    visible one exists."""

    messages: Sequence[MessageView]
    total: int
    has_more: bool


def read_history(access: ConversationAccess, wanted: HistoryRequest) -> History:
    """Cost: the rows of the page, and those of the pages before it when paged by number.

    Raises PageTooDeep beyond MAX_ROWS_BY_PAGE, ValidationFailed, MessageNotFound (an anchor that is not here).
    """
    anchors = {
        "before": wanted.before,
        "beforeSeq": wanted.before_seq,
        "afterSeq": wanted.after_seq,
        "around": wanted.around,
    }
    given = [name for name, value in anchors.items() if value is not None]
    if len(given) > 1:
        raise ValidationFailed([FieldError(f"/{name}", "cannot be combined with another anchor") for name in given])
    if wanted.page > 1 and not wanted.is_by_page:
        raise ValidationFailed([FieldError("/page", f"cannot be combined with {given[0]}")])
    if wanted.page * wanted.limit > MAX_ROWS_BY_PAGE:
        raise PageTooDeep
    rows, has_more = _rows(access, wanted)
    return History(rows, access.conversation.remaining_count, has_more)


def _rows(access: ConversationAccess, wanted: HistoryRequest) -> tuple[list[MessageView], bool]:
    """Messages oldest first, and whether an older visible one exists."""
    view = access.viewpoint
    offset, limit = (wanted.page - 1) * wanted.limit, wanted.limit
    if wanted.after_seq is not None:
        following = messages.after(view, wanted.after_seq, limit=limit)
        return following, _older_exists(view, following, wanted.after_seq + 1)
    if wanted.around is not None:
        return _around(view, wanted.around, limit)
    before_seq = wanted.before_seq
    if wanted.before is not None:
        if (message_id := find_uuid(wanted.before)) is not None:
            before_seq = _position(view, message_id)
        else:
            found = messages.before_time(view, _time(wanted.before), offset=offset, limit=limit + 1)
            return found[:limit][::-1], len(found) > limit
    found = messages.newest(view, before_seq=before_seq, offset=offset, limit=limit + 1)
    return found[:limit][::-1], len(found) > limit


def _around(view: Viewpoint, anchor: str, limit: int) -> tuple[list[MessageView], bool]:
    message_id = find_uuid(anchor)
    if message_id is not None:
        seq = _position(view, message_id)
    elif anchor.isascii() and anchor.isdigit() and len(anchor) <= 18:
        seq = int(anchor)
    else:
        raise ValidationFailed([FieldError("/around", "must be a message id or a seq")])
    older = messages.newest(view, before_seq=seq, limit=limit // 2 + 1)
    has_more = len(older) > limit // 2
    older = older[: limit // 2][::-1]
    return older + messages.after(view, seq - 1, limit=limit - len(older)), has_more


def _older_exists(view: Viewpoint, shown: Sequence[MessageView], from_seq: int) -> bool:
    first = shown[0].seq if shown else from_seq
    return bool(messages.newest(view, before_seq=first, limit=1))


def _position(view: Viewpoint, message_id: UUID) -> int:
    position = messages.find_position(view.conversation_id, message_id)
    if position is None or position.seq < view.visible_from_seq:
        raise MessageNotFound
    return position.seq


def _time(text: str) -> datetime:
    try:
        return wire.parse_timestamp(text)
    except ValueError:
        raise ValidationFailed(
            [FieldError("/before", "must be a message id or an RFC 3339 time, such as 2026-01-31T08:00:00.000Z")]
        ) from None
