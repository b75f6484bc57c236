"""Group commit: many waiting senders share one transaction, and each gets its own result after it."""

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

from django.conf import settings
from django.db import Error as DatabaseError  # the whole family: a connection that broke raises InterfaceError, too
from django.db import close_old_connections, connection, transaction

from messagecore.kernel import metrics
from messagecore.kernel.errors import Refusal, ServiceUnavailable
from messaging.services.sending import Draft, Sent, send_messages
from tenants.cards import TenantCard
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

MAX_WAITING = 8192
"""Drafts that may wait for a commit; one more is refused with `service_unavailable`, which is retryable."""

MAX_BATCH = 256
CHECK_CONNECTION_AFTER_S = 5.0


@dataclass(slots=True)
class _Waiting:
    tenant: TenantCard
    draft: Draft
    via: str
    outcome: Future[Sent] = field(default_factory=Future)


class SendBatcher:
    """A queue in front of a few threads, each with its own database connection. While a thread commits, the next
    batch gathers; a lone sender waits for nobody."""

    def __init__(self, *, threads: int) -> None:
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(MAX_WAITING)
        self._closing = False
        self._threads = [
            threading.Thread(target=self._run, name=f"commit-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, tenant: TenantCard, draft: Draft, *, via: str) -> Future[Sent]:
        """The future's result is there once the draft's own row is durable; its exception is the Refusal.

        Raises ServiceUnavailable when MAX_WAITING drafts are waiting already, and once it was closed."""
        if self._closing:
            raise ServiceUnavailable
        waiting = _Waiting(tenant, draft, via)
        try:
            self._waiting.put_nowait(waiting)
        except queue.Full:
            raise ServiceUnavailable("Too many messages are waiting to be stored; try again shortly.") from None
        metrics.SEND_QUEUE_LENGTH.set(self._waiting.qsize())
        return waiting.outcome

    def close(self, *, timeout_s: float) -> None:
        """Lets what is waiting finish, then ends the threads; what is not stored by then is refused. Blocks."""
        deadline = time.monotonic() + timeout_s
        self._closing = True
        with suppress(queue.Full):
            for _ in self._threads:
                self._waiting.put(None, timeout=max(0.0, deadline - time.monotonic()))
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with suppress(queue.Empty):
            while True:
                waiting = self._waiting.get_nowait()
                if waiting is not None and waiting.outcome.set_running_or_notify_cancel():
                    _settle(waiting, ServiceUnavailable())

    def _run(self) -> None:
        last_used = time.monotonic()
        while True:
            batch, closing = self._gather()
            if batch:
                metrics.COMMIT_POOL.inc()
                try:
                    if time.monotonic() - last_used > CHECK_CONNECTION_AFTER_S:
                        close_old_connections()
                    self._commit(batch)
                except Exception:
                    # A thread that ends would take its share of all later sends with it.
                    logger.exception("a batch of %d drafts failed", len(batch))
                    self._fail(batch)
                finally:
                    metrics.COMMIT_POOL.dec()
                last_used = time.monotonic()
            if closing:
                connection.close()
                return

    def _gather(self) -> tuple[list[_Waiting], bool]:
        """Waits for one draft, then takes what else is there. True: this thread is asked to end."""
        batch: list[_Waiting] = []
        waiting = self._waiting.get()
        while waiting is not None:
            # A sender that gave up before its turn (a closed socket) is left out; from here on it is too late to.
            if waiting.outcome.set_running_or_notify_cancel():
                batch.append(waiting)
            if len(batch) == MAX_BATCH:
                return batch, False
            try:
                waiting = self._waiting.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        metrics.SEND_BATCH_SIZE.observe(len(batch))
        segments: defaultdict[TenantCard, list[_Waiting]] = defaultdict(list)
        for waiting in batch:
            segments[waiting.tenant].append(waiting)
        done: list[tuple[_Waiting, Sent | Refusal]] = []
        failed: list[_Waiting] = []
        is_committed = threading.Event()
        started = time.perf_counter()
        try:
            # Tenants in id order: with conversations sorted within each, two batches never wait for each other.
            with transaction.atomic():
                transaction.on_commit(is_committed.set)
                for tenant in sorted(segments, key=lambda card: card.id):
                    segment = segments[tenant]
                    try:
                        done += self._send(tenant, segment)
                    except Exception as error:
                        # Among them what clients can bring about: one id used for two conversations at this moment.
                        logger.warning("a segment of %d drafts failed and is retried singly: %s", len(segment), error)
                        failed += segment
            if not is_committed.is_set():
                # Django rolls back without a word when a savepoint could not be: the connection broke in a later
                # segment, and what the earlier ones wrote is not there either.
                connection.close()
                done, failed = [], list(batch)
        except DatabaseError as error:
            logger.warning("a batch of %d drafts was not committed: %s", len(batch), error)
            self._fail(batch)
            return
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - started)
        for waiting, outcome in done:
            _settle(waiting, outcome)
        for waiting in failed:
            self._retry(waiting)

    def _send(self, tenant: TenantCard, segment: Sequence[_Waiting]) -> list[tuple[_Waiting, Sent | Refusal]]:
        """A savepoint of its own, so that a tenant's failure is its own."""
        with tenant_scope(tenant):
            outcomes = send_messages(
                tenant_id=tenant.id, drafts=[waiting.draft for waiting in segment], via=segment[0].via
            )
        return list(zip(segment, outcomes, strict=True))

    def _retry(self, waiting: _Waiting) -> None:
        outcome: Sent | Refusal
        try:
            with transaction.atomic():
                ((_, outcome),) = self._send(waiting.tenant, [waiting])
        except DatabaseError as error:
            logger.warning("a draft could not be stored: %s", error)
            self._fail([waiting])
        except Exception:
            logger.exception("a draft could not be stored")
            self._fail([waiting])
        else:
            _settle(waiting, outcome)

    @staticmethod
    def _fail(batch: Sequence[_Waiting]) -> None:
        """Answers whoever was not answered yet, and lets go of a connection that is broken."""
        for waiting in batch:
            if not waiting.outcome.done():
                _settle(waiting, ServiceUnavailable())
        with suppress(DatabaseError):
            connection.close_if_unusable_or_obsolete()


def _settle(waiting: _Waiting, outcome: Sent | Refusal) -> None:
    if isinstance(outcome, Refusal):
        waiting.outcome.set_exception(outcome)
    else:
        waiting.outcome.set_result(outcome)


@cache
def send_batcher() -> SendBatcher:
    """This process's batcher; its threads start with the first send."""
    return SendBatcher(threads=settings.COMMIT_THREADS)
