"""A scenario's people: devices of users in conversations of a tenant of their own, and the question at the end whether
everybody has seen everything."""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.client import Tenant, unique
from tests.e2e.cluster import Server
from tests.faults.checker import check
from tests.faults.client import Backend, Client
from tests.faults.fallbacks import CLIENTS, Carrier
from tests.faults.installation import Installation
from tests.faults.recorder import Recorder, read_records
from tests.faults.truth import Truth, ends_of, read_truth

COMPLETE_WITHIN_S = 15.0
"""Contract: with every hint lost and no further traffic everybody who is connected has everything within this time.
A client that is not connected in the end has its pauses before it, and its resuming."""
RECONNECT_WITHIN_S = 15.0
SHOWN = 30
"""Problems that a failure names; the rest can be found again in the records."""


@dataclass
class Scene:
    """`folder` holds the records; `seed` decides everything that can be decided."""

    installation: Installation
    folder: Path
    seed: int
    tenant: Tenant
    backend: Backend
    dice: random.Random
    faults_before: int
    clients: list[Client] = field(default_factory=list)
    users: list[dict[str, Any]] = field(default_factory=list)
    members: dict[str, list[str]] = field(default_factory=dict)
    """By conversation, who was in it at the beginning."""
    blocks: dict[str, list[str]] = field(default_factory=dict)
    """By user, whom they block from before their first connection to the end."""
    claims: dict[str, Any] = field(default_factory=dict)
    """Of the tokens of clients that are made from now on, beside the usual ones."""
    channel: str = ""
    """One of the conversations: who left it may join it again by themselves."""

    @classmethod
    async def open(cls, installation: Installation, folder: Path, seed: int) -> "Scene":
        """A new tenant with nobody in it."""
        servers = installation.servers
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            answer = await http.post(
                f"{servers[0].url}/api/v1/admin/tenants",
                json={"name": "Faults", "subdomain": unique(f"faults-{seed}"), "planType": "enterprise"},
                headers={"Authorization": f"Bearer {installation.platform_token}"},
            )
        made = answer.raise_for_status().json()["data"]
        tenant = Tenant(made["id"], made["apiKey"], made["publishableKey"], made["tokenSecret"])
        doors = [server.url for server in servers]
        backend = Backend(doors, tenant, Recorder(folder / "backend.jsonl"), seed)
        return cls(installation, folder, seed, tenant, backend, random.Random(seed), len(installation.faults()))

    async def people(self, count: int) -> list[dict[str, Any]]:
        """`count` more users."""
        bodies = [{"externalUserId": unique("user")} for _ in range(count)]
        made: list[dict[str, Any]] = await self.backend("POST", "/users/batch", {"users": bodies})
        self.users += made
        return made

    async def conversation(self, users: Sequence[dict[str, Any]], type_: str = "group") -> str:
        ids = [user["id"] for user in users]
        made = await self.backend("POST", "/conversations", {"type": type_, "participantIds": ids})
        self.members[made["id"]] = ids
        return str(made["id"])

    async def say(self, client: Client, conversation: str, count: int) -> None:
        """So many texts, one after the other."""
        for _ in range(count):
            await client.send(conversation, unique("m"))

    async def remove(self, conversation: str, client: Client) -> None:
        request = ("DELETE", f"/conversations/{conversation}/participants/{client.user_id}", None)
        user = client.user_id
        await self.backend.attempt("remove", conversation, user, request, key=unique("remove"), user=user, acts=False)

    async def let_in(self, conversation: str, client: Client, *, show_history: bool) -> None:
        body = {"participantIds": [client.user_id], "showHistory": show_history}
        request, user = ("POST", f"/conversations/{conversation}/participants", body), client.user_id
        await self.backend.attempt("add", conversation, user, request, key=unique("add"), user=user, acts=False)

    async def crowd(self, people: int = 8, rooms: int = 4) -> None:
        """People with a device each, in groups of five that overlap and a channel with everybody; one of them blocks
        another from the start. Returns when all are connected."""
        users = await self.people(people)
        for number in range(rooms):
            await self.conversation([users[(number * 2 + place) % people] for place in range(min(5, people))])
        self.channel = await self.conversation(users, "channel")
        blocker, blocked = users[0]["id"], users[1]["id"]
        await self.backend("POST", f"/users/{blocker}/blocks", {"userId": blocked}, acting=blocker)
        self.blocks[blocker] = [blocked]
        for user in users:
            self.device(user)
        await self.everybody_is_there()

    async def crowd_without_sockets(self) -> None:
        """More devices of the crowd's, by event streams and by polls; of the one who blocks, too."""
        for number, user in enumerate(self.users[:4]):
            self.device(user, by=("stream", "polls")[number % 2])
        self.device(self.users[0], by="polls")
        await self.everybody_is_there()

    def device(
        self,
        user: dict[str, Any],
        *,
        by: Carrier = "socket",
        servers: Sequence[Server] = (),
        doors: Sequence[str] = (),
    ) -> Client:
        """A client of that user, which connects to any of `servers` (none: all), or of `doors`."""
        number = len(self.clients) + 1
        recorder = Recorder(self.folder / f"{number:02}-{user['externalUserId']}.jsonl")
        reached = servers or self.installation.servers
        client = CLIENTS[by](
            user=user,
            tenant=self.tenant,
            doors=doors or [server.ws_url if by == "socket" else server.url for server in reached],
            recorder=recorder,
            seed=self.seed + number,
            claims=self.claims,
            blocks=self.blocks.get(str(user["id"]), ()),
        )
        self.clients.append(client)
        client.wake()
        return client

    def use(self, servers: Sequence[Server]) -> None:
        """From now on everybody connects to these."""
        self.backend.use(servers)
        for client in self.clients:
            client.use(servers)

    async def everybody_is_there(self, timeout_s: float = RECONNECT_WITHIN_S) -> None:
        """Returns when every client that is awake has resumed."""
        for client in self.clients:
            if client.is_awake:
                await client.until_complete(timeout_s)

    async def is_complete(self) -> Truth:
        """Everybody comes back and has seen everything in time, and the records hold to the database. Returns what
        that says. Everybody has to be awake, and nothing be written any more."""
        late = await self._wait_for_everybody()
        for client in self.clients:
            with suppress(TimeoutError):
                await asyncio.wait_for(client.settle(), 5)
        truth = await asyncio.to_thread(self._truth)
        found = [*late, *check(read_records(self.folder), truth), *self.installation.faults()[self.faults_before :]]
        if found:
            (self.folder / "truth.json").write_text(json.dumps(asdict(truth), indent=1), "utf-8")
            raise AssertionError("\n".join([self.where, *found[:SHOWN], f"{len(found)} in all"]))
        return truth

    async def _wait_for_everybody(self) -> list[str]:
        """Who is not complete in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RECONNECT_WITHIN_S + COMPLETE_WITHIN_S
        late: list[str] = []
        for client in self.clients:
            ends = await asyncio.to_thread(self._ends_of, client.user_id)
            try:
                await client.until_complete(max(0.1, deadline - loop.time()), held=ends)
            except TimeoutError:
                differ = {one: (client.held.get(one), ends.get(one)) for one in client.held.keys() ^ ends.keys()} or {
                    one: (client.held[one], ends[one]) for one in ends if client.held[one] != ends[one]
                }
                late.append(f"{client.recorder.path.stem}: complete: {client.is_complete}; has, log: {differ}")
        return late

    def _ends_of(self, user: str) -> dict[str, int]:
        with self.installation.postgres.connect() as database:
            return ends_of(database, self.tenant.id, user)

    def _truth(self) -> Truth:
        with self.installation.postgres.connect() as database:
            return read_truth(database, self.tenant.id)

    @property
    def where(self) -> str:
        """How to have the same again, and where to look."""
        logs = ", ".join(str(server.log) for server in self.installation.servers)
        return f"MESSAGECORE_FAULT_SEED={self.seed}; records: {self.folder}; logs: {logs}"

    async def close(self) -> None:
        outcomes = await asyncio.gather(*(client.stop() for client in self.clients), return_exceptions=True)
        for client in self.clients:
            client.recorder.close()
        await self.backend.close()
        assert [repr(outcome) for outcome in outcomes if outcome is not None] == [], self.where
