"""Who gives a command: a connection that is in the hub, or a user without one."""

from typing import Protocol
from uuid import UUID

from messaging.access import ConversationNotFound
from messaging.services import reading
from realtime.connection import Connection
from realtime.database import read_in_database_thread
from realtime.hub import Hub
from realtime.presence.keeper import PresenceKeeper
from realtime.rooms import Room
from tenants.cards import TenantCard


class Named(Protocol):
    """A conversation by its ids."""

    @property
    def id(self) -> UUID: ...
    @property
    def external_id(self) -> str | None: ...


class Asker(Protocol):
    """The user who gives a command."""

    tenant: TenantCard
    user_id: UUID
    external_user_id: str

    async def room(self, any_id: str) -> Named:
        """Raises ConversationNotFound for a conversation that the user is not in."""


class Errand:
    """A user without a connection here: what they name is looked for in the database."""

    def __init__(self, tenant: TenantCard, user_id: UUID, external_user_id: str) -> None:
        self.tenant = tenant
        self.user_id = user_id
        self.external_user_id = external_user_id

    async def room(self, any_id: str) -> Named:
        return await read_in_database_thread(reading.get_conversation_of, self.tenant, self.user_id, any_id)


class Session:
    """An authenticated connection with what its commands need."""

    def __init__(self, connection: Connection, hub: Hub, presence: PresenceKeeper) -> None:
        assert connection.tenant is not None
        assert connection.user_id is not None
        self.connection = connection
        self.tenant: TenantCard = connection.tenant
        self.user_id: UUID = connection.user_id
        self.external_user_id = connection.external_user_id
        self.hub = hub
        self.presence = presence

    async def room(self, any_id: str) -> Room:
        """Raises ConversationNotFound for a conversation that the user is not in.

        A client may name a conversation before the hint of it has come here: it made it by REST a moment ago. So a
        miss is asked of the database before it is one.
        """
        room = self.hub.find_room(self.connection, any_id)
        if room is None:
            await self.hub.comparison.compare_user(self.tenant.id, self.user_id)
            room = self.hub.find_room(self.connection, any_id)
        if room is None:
            raise ConversationNotFound
        return room
