"""Scheduling messages, and making their time come."""

from datetime import UTC, datetime, timedelta
from typing import Any

from messagecore.kernel import wire
from tenants.models import Timer
from tests.accounts import Account, draft


def later(seconds: float = 60) -> str:
    return wire.timestamp(datetime.now(UTC) + timedelta(seconds=seconds))


def body(room: Any, sender: Any, text: str = "later", **fields: Any) -> Any:
    return draft(room, sender, text, **({"sendAt": later()} | fields))


def schedule(tenant: Account, room: Any, sender: Any, text: str = "later", **fields: Any) -> Any:
    return tenant.api.post("/messages/scheduled", body(room, sender, text, **fields))


def time_comes(account: Account, *, by: timedelta = timedelta(days=400)) -> None:
    """Every timer of the tenant is due, in the order in which they were going to be."""
    for timer in Timer.objects.filter(tenant_id=account.id):
        Timer.objects.filter(pk=timer.pk).update(due_at=timer.due_at - by)


def history(tenant: Account, room: Any) -> list[Any]:
    found: list[Any] = tenant.api.get(f"/messages/conversations/{room['id']}", {"limit": 100}).data["messages"]
    return found


def texts(tenant: Account, room: Any) -> list[str]:
    return [message["content"]["text"] for message in history(tenant, room)]


def waiting(tenant: Account) -> int:
    return Timer.objects.filter(tenant_id=tenant.id).count()
