"""The workload of messaging: reading a tenant of a million messages beside one of a thousand, and bulk imports."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.test.client import ClientHandler
from django.utils import timezone

from bench import machine, report
from bench.imports import LINES, run_import
from bench.loading import fill, room_name, user_name
from bench.measuring import Api, Get, Statement, Times, measure, watched
from bench.options import Options
from bench.shape import BUSIEST, CROWD, PAGE, READER, SMALL, Shape, large
from bench.words import COMMON, RARE, RARE_MESSAGES
from messaging.services.verification import verify_unread
from quotas.services.accounts import open_account
from tenants.models import Tenant
from tenants.scope import tenant_scope

WARM_UP = 5
RESULTS = 20
"""On a page of search."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A request that is sent to both tenants, how many times the small one's time the large one's may be, and what a
    right answer's `data` is."""

    name: str
    target: float
    request: Callable[[Shape], Get]
    is_right: Callable[[Any], bool]


def _rows(count: int, key: str | None = None) -> Callable[[Any], bool]:
    return lambda data: len(data if key is None else data[key]) == count


def _history(room: int) -> str:
    return f"/messages/conversations/{room_name(room)}"


def _search(frequency: str, language: str, user: str | None) -> Workload:
    """One of the RARE_MESSAGES is in a conversation that the reader is not in."""
    word = (RARE if frequency == "rare" else COMMON)[language]
    found = RESULTS if frequency == "common" else RARE_MESSAGES if user is None else RARE_MESSAGES - 1
    return Workload(
        f"search of a {frequency} word, {language}, {'the tenant' if user is None else 'the reader’s conversations'}",
        2,
        lambda _: Get("/search/messages", {"q": word, "limit": RESULTS}, user),
        _rows(found),
    )


_READER = user_name(READER)

WORKLOADS: Sequence[Workload] = (
    Workload(
        "newest page of the largest conversation",
        1.5,
        lambda _: Get(_history(BUSIEST), {"limit": PAGE}, _READER),
        _rows(PAGE, "messages"),
    ),
    Workload(
        "newest page of the conversation that everybody is in",
        1.5,
        lambda _: Get(_history(CROWD), {"limit": PAGE}, _READER),
        _rows(PAGE, "messages"),
    ),
    Workload(
        "page deep in the largest conversation, by cursor",
        2,
        lambda shape: Get(_history(BUSIEST), {"limit": PAGE, "beforeSeq": shape.busiest // 2}, _READER),
        _rows(PAGE, "messages"),
    ),
    Workload(
        "the reader's conversations, first page",
        2,
        lambda _: Get(f"/users/{_READER}/conversations", {"limit": PAGE}),
        _rows(PAGE),
    ),
    Workload(
        "the reader's unread total",
        2,
        lambda _: Get(f"/users/{_READER}/unread"),
        lambda data: data["unreadMessages"] > 0,
    ),
    *(
        _search(frequency, language, user)
        for user in (None, _READER)
        for frequency in ("rare", "common")
        for language in ("en", "zh")
    ),
)


def run(options: Options) -> None:
    """Loads both tenants, measures, and writes `messaging.md` and `messaging-explain.txt`. Raises RuntimeError when
    something is not answered as it should be."""
    shapes = (SMALL, large(options.scale))
    apis: dict[str, Api] = {}
    tenants: dict[str, Tenant] = {}
    handler = ClientHandler(enforce_csrf_checks=False)
    loaded: dict[str, float] = {}
    for seed, shape in enumerate(shapes):
        account = open_account(name=shape.name, subdomain=shape.name, plan_type="enterprise")
        tenants[shape.name] = account.tenant
        apis[shape.name] = Api(account.secret_key.value, handler)
        began = time.monotonic()
        fill(account.tenant, shape, seed=seed, now=timezone.now())
        loaded[shape.name] = time.monotonic() - began
        print(f"{shape.name}: {shape.messages:,} messages loaded in {loaded[shape.name]:.0f} s", flush=True)
    _check(tenants[SMALL.name], apis, shapes)

    times = _measure(apis, shapes, options.repetitions)
    about = machine.describe()
    plans = {workload.name: _explain(tenants[shapes[1].name], apis, workload, shapes[1]) for workload in WORKLOADS}
    importer = open_account(name="import", subdomain="import", plan_type="enterprise").tenant
    imported = run_import(importer, lines=max(int(LINES * options.scale), 1_000))

    options.output.mkdir(parents=True, exist_ok=True)
    figures = report.figures(
        about=about,
        shapes=shapes,
        rows=[(one.name, one.target, *times[one.name]) for one in WORKLOADS],
        repetitions=options.repetitions,
        loaded_s=loaded[shapes[1].name],
        imported=imported,
    )
    (options.output / "messaging.md").write_text(figures, "utf-8")
    (options.output / "messaging-explain.txt").write_text(report.plans(shapes[1], plans), "utf-8")
    print(figures)


def _check(small: Tenant, apis: Mapping[str, Api], shapes: Sequence[Shape]) -> None:
    """That what was loaded is what the product would have written, and that each request finds what it should."""
    drifts = [drift for checked in verify_unread(small, repair=False) for drift in checked.drifts]
    if drifts:
        raise RuntimeError(f"the small tenant's unread counts are not those of its log: {drifts[:3]}")
    for shape in shapes:
        for workload in WORKLOADS:
            answer = apis[shape.name].get(workload.request(shape))
            if not workload.is_right(answer["data"]):
                raise RuntimeError(f"{shape.name}, {workload.name}: not the answer it should be: {str(answer)[:500]}")


def _measure(apis: Mapping[str, Api], shapes: Sequence[Shape], repetitions: int) -> Mapping[str, tuple[Times, Times]]:
    """Each request on the small tenant and at once on the large one, or the other way round, in turns: whatever else
    the machine does meets both."""
    times = {workload.name: (Times(), Times()) for workload in WORKLOADS}
    # As the server sets it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    for repetition in range(-WARM_UP, repetitions):
        for workload in WORKLOADS:
            for place in (0, 1) if repetition % 2 else (1, 0):
                into = times[workload.name][place] if repetition >= 0 else Times()
                measure(apis[shapes[place].name], workload.request(shapes[place]), into)
    return times


def _explain(tenant: Tenant, apis: Mapping[str, Api], workload: Workload, shape: Shape) -> list[tuple[Statement, str]]:
    """Every statement of the request that runs in the tenant's schema, with the plan that it ran by."""
    with watched() as watch:
        apis[shape.name].get(workload.request(shape))
    plans = []
    with tenant_scope(tenant), connection.cursor() as cursor:
        for statement in watch.statements:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {statement.sql}", statement.parameters)
            plans.append((statement, "\n".join(row[0] for row in cursor.fetchall())))
    return plans
