"""A tenant's message filters: keeping them, and having them ready for whatever is sent."""

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from cachetools import LRUCache, TTLCache
from django.db import connection, transaction

from messagecore.kernel import ids
from messagecore.kernel.errors import Conflict, FieldError, NotFound, Refusal, ValidationFailed
from messagecore.kernel.ids import find_uuid
from messagecore.kernel.validation import MAX_REPORTED
from messaging.models import FilterAction, FilterKind, MessageFilter
from messaging.queries import moderation as queries
from messaging.services.matching import Action, InvalidExpression, Rule, Rules, compile_expression, units_of

logger = logging.getLogger(__name__)

MAX_FILTERS = 20
"""Filters that a tenant may have."""

MAX_WORDS = 10_000
MAX_WORD_CHARACTERS = 100
MAX_EXPRESSIONS = 100
MAX_EXPRESSION_CHARACTERS = 500

CACHE_SECONDS = 3.0
"""A change takes effect everywhere within 5 s."""

_ACTIONS = {FilterAction.MASK: Action.MASK, FilterAction.HOLD: Action.HOLD, FilterAction.REJECT: Action.REJECT}


class FilterNotFound(NotFound):
    code = "filter_not_found"


class MessageRejected(Refusal):
    code = "message_rejected"


class MessageHeld(Refusal):
    """The draft is in the review queue: what was written has to be committed for that to be true."""

    code = "message_held"

    def __init__(self, held_message_id: UUID) -> None:
        super().__init__(details={"heldMessageId": str(held_message_id)})


def create_filter(*, tenant_id: UUID, body: Mapping[str, Any], now: datetime) -> MessageFilter:
    """Raises ValidationFailed (naming the patterns), Conflict (MAX_FILTERS)."""
    _check_patterns(body["kind"], body["patterns"])
    # Two at once count one after the other.
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE messaging_messagefilter IN SHARE ROW EXCLUSIVE MODE")
    if MessageFilter.objects.count() >= MAX_FILTERS:
        raise Conflict(f"A tenant has at most {MAX_FILTERS} filters.")
    made = MessageFilter.objects.create(
        id=ids.new_id(),
        name=body["name"],
        kind=body["kind"],
        patterns=body["patterns"],
        action=body["action"],
        is_enabled=body.get("isEnabled", True),
        created_at=now,
        updated_at=now,
    )
    _forget(tenant_id)
    return made


def get_filter(any_id: str) -> MessageFilter:
    """Raises FilterNotFound."""
    return _get(any_id, locked=False)


def update_filter(*, tenant_id: UUID, filter_id: str, change: Mapping[str, Any], now: datetime) -> MessageFilter:
    """Changes what is given; the patterns as a whole. Raises FilterNotFound, ValidationFailed (naming the patterns)."""
    found = _get(filter_id, locked=True)
    if "patterns" in change:
        _check_patterns(found.kind, change["patterns"])
    columns = {"name": "name", "patterns": "patterns", "action": "action", "isEnabled": "is_enabled"}
    for name, column in columns.items():
        setattr(found, column, change.get(name, getattr(found, column)))
    found.updated_at = now
    found.save(update_fields=[*columns.values(), "updated_at"])
    _forget(tenant_id)
    return found


def delete_filter(*, tenant_id: UUID, filter_id: str) -> None:
    """What it held stays in the review queue. Raises FilterNotFound."""
    _get(filter_id, locked=True).delete()
    _forget(tenant_id)


def _get(any_id: str, *, locked: bool) -> MessageFilter:
    uuid = find_uuid(any_id)
    rows = MessageFilter.objects.select_for_update() if locked else MessageFilter.objects
    found = None if uuid is None else rows.filter(pk=uuid).first()
    if found is None:
        raise FilterNotFound
    return found


def _check_patterns(kind: str, patterns: Sequence[str]) -> None:
    """Raises ValidationFailed, naming each pattern that cannot be used, MAX_REPORTED at most."""
    most = MAX_WORDS if kind == FilterKind.WORDS else MAX_EXPRESSIONS
    if len(patterns) > most:
        raise ValidationFailed([FieldError("/patterns", f"at most {most} of this kind")])
    wrong: list[FieldError] = []
    for place, pattern in enumerate(patterns):
        problem = _problem(kind, pattern)
        if problem is not None:
            wrong.append(FieldError(f"/patterns/{place}", problem))
        if len(wrong) == MAX_REPORTED:
            break
    if wrong:
        raise ValidationFailed(wrong)


def _problem(kind: str, pattern: str) -> str | None:
    if kind == FilterKind.WORDS:
        if len(pattern) > MAX_WORD_CHARACTERS:
            return f"is longer than {MAX_WORD_CHARACTERS} characters"
        return None if units_of(pattern) else "holds nothing that could be matched"
    if len(pattern) > MAX_EXPRESSION_CHARACTERS:
        return f"is longer than {MAX_EXPRESSION_CHARACTERS} characters"
    try:
        compile_expression(pattern)
    except InvalidExpression as error:
        return str(error)
    return None


# --- ready for sending ----------------------------------------------------------------------------------------------

_Versions = tuple[tuple[UUID, datetime], ...]

_ready: TTLCache[UUID, Rules | None] = TTLCache(50_000, CACHE_SECONDS)
"""What a tenant's filters are now, None: it has none."""

MAX_COMPILED = 1_000_000
"""About 300 MB of compiled filters; a tenant's that has to be made again takes up to some hundred milliseconds."""

_compiled: LRUCache[_Versions, Rules] = LRUCache(MAX_COMPILED, getsizeof=lambda rules: min(rules.size, MAX_COMPILED))
"""By what they were made of, so that what did not change is not made again every few seconds."""

_lock = threading.Lock()


def get_rules(tenant_id: UUID) -> Rules | None:
    """The tenant's filters, at most CACHE_SECONDS old; None where it has none. To be asked in its scope."""
    with _lock:
        if tenant_id in _ready:
            return _ready[tenant_id]
    versions = queries.filter_versions()
    rules = _make(versions) if versions else None
    with _lock:
        _ready[tenant_id] = rules
    return rules


def _make(versions: _Versions) -> Rules:
    with _lock:
        rules = _compiled.get(versions)
    if rules is None:
        rows = MessageFilter.objects.filter(id__in=[filter_id for filter_id, _ in versions], is_enabled=True)
        found = list(rows.order_by("created_at", "id"))
        rules = Rules([_rule(row) for row in found])
        if rules.unusable:
            logger.error("%d expressions of filters cannot be used any more: %r", len(rules.unusable), rules.unusable)
        with _lock:
            # As they were when they were read, which may be later than when they were asked for.
            _compiled[tuple((row.id, row.updated_at) for row in found)] = rules
    return rules


def _rule(row: MessageFilter) -> Rule:
    is_words = row.kind == FilterKind.WORDS
    return Rule(
        filter_id=row.id,
        action=_ACTIONS[FilterAction(row.action)],
        words=row.patterns if is_words else (),
        expressions=() if is_words else row.patterns,
    )


def _forget(tenant_id: UUID) -> None:
    """At once for whoever made the change, and again when others can see it."""
    _drop(tenant_id)
    transaction.on_commit(lambda: _drop(tenant_id))


def _drop(tenant_id: UUID) -> None:
    with _lock:
        _ready.pop(tenant_id, None)


def forget_cached_filters() -> None:
    with _lock:
        _ready.clear()
        _compiled.clear()
