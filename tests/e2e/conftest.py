"""Clusters of real server processes: one for all tests that leave it whole, others to be hurt."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Tenant, World, unique
from tests.e2e.cluster import Cluster, Database, Valkey
from tests.settings import WORKER

# Shorter than in production, so that tests need not wait for what only takes its time.
QUICK = {
    "SOCKET_AUTHENTICATE_SECONDS": "1",
    "PRESENCE_LEASE_SECONDS": "6",
    "PRESENCE_GRACE_SECONDS": "2",
    "PRESENCE_SETTLE_SECONDS": "0",
}


@pytest.fixture(scope="session")
def e2e_database() -> Iterator[Database]:
    database = Database(f"test_messagecore_e2e_{WORKER or 'alone'}")
    database.create()
    yield database
    database.drop()


@pytest.fixture(scope="session")
def platform_token(e2e_database: Database, tmp_path_factory: pytest.TempPathFactory) -> str:
    cluster = Cluster(tmp_path_factory.mktemp("token"), e2e_database, Valkey(Path()))
    return cluster.manage("create_platform_token", "e2e")


def running_cluster(
    folder: Path, database: Database, *, servers: int, worker: bool = False, **options: str
) -> Iterator[Cluster]:
    valkey = Valkey(folder)
    cluster = Cluster(folder, database, valkey, QUICK | options)
    try:
        valkey.start()
        if worker:
            cluster.start_worker()
        cluster.start(servers)
        yield cluster
    finally:
        cluster.stop()
        valkey.stop()


@pytest.fixture(scope="session")
def standing_cluster(
    e2e_database: Database, platform_token: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Two web processes that no test harms."""
    yield from running_cluster(tmp_path_factory.mktemp("cluster"), e2e_database, servers=2)


@pytest.fixture
def cluster(standing_cluster: Cluster) -> Iterator[Cluster]:
    """The standing cluster; a test in which it logs a fault fails."""
    before = {server.name: len(server.faults()) for server in standing_cluster.servers}
    yield standing_cluster
    assert [fault for server in standing_cluster.servers for fault in server.faults()[before[server.name] :]] == []


@pytest.fixture
def make_cluster(e2e_database: Database, platform_token: str, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Clusters of the test's own: `make_cluster(servers=3, PRESENCE_LEASE_SECONDS="6")`."""
    running: list[Iterator[Cluster]] = []

    def make(servers: int, *, worker: bool = False, **options: str) -> Cluster:
        folder = tmp_path / f"cluster{len(running)}"
        folder.mkdir()
        running.append(running_cluster(folder, e2e_database, servers=servers, worker=worker, **options))
        return next(running[-1])

    yield make
    for cluster in running:
        next(cluster, None)


@pytest.fixture
async def make_world(platform_token: str) -> AsyncIterator[Callable[[Cluster], Awaitable[World]]]:
    """A new tenant on a cluster."""
    worlds: list[World] = []

    async def make(cluster: Cluster) -> World:
        world = World(cluster.servers, Tenant("", "", "", ""), platform_token)
        worlds.append(world)
        body = {"name": "End to end", "subdomain": unique(f"e2e-{WORKER or 'alone'}"), "planType": "enterprise"}
        made = await world.platform()("POST", "/admin/tenants", body)
        world.tenant = Tenant(made["id"], made["apiKey"], made["publishableKey"], made["tokenSecret"])
        return world

    yield make
    for world in worlds:
        await world.close()


@pytest.fixture
async def world(cluster: Cluster, make_world: Callable[[Cluster], Awaitable[World]]) -> World:
    """A new tenant on the standing cluster."""
    return await make_world(cluster)
