"""The processes that make up a running MessageCore, and the commands that get its database ready for them."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Service:
    """A long-running process: `key` names its log, `name` is for people."""

    key: str
    name: str
    command: Sequence[str]
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)


@dataclass(frozen=True, slots=True)
class Preparation:
    """A command that has to end well before the services start, its log's name, and how people are told of it."""

    key: str
    doing: str
    done: str
    command: Sequence[str]


def services(home: Path) -> list[Service]:
    """The web server, the worker and the scheduler, run by this Python."""
    celery = [sys.executable, "-m", "celery", "--app", "messagecore"]
    # One worker a home: it has nobody to gossip or compare clocks with, and starts sooner without.
    alone = ["--without-gossip", "--without-mingle"]
    return [
        Service("web", "web server", [sys.executable, "-m", "messagecore.server"]),
        Service(
            "worker",
            "worker",
            [*celery, "worker", "--loglevel", "INFO", "--concurrency", "2", *alone],
            # Let running tasks end, then hand them back: the outbox drives them again.
            stop_signals=(signal.SIGTERM, signal.SIGQUIT),
        ),
        Service(
            "beat",
            "scheduler",
            [*celery, "beat", "--loglevel", "INFO", "--schedule", str(home / "beat-schedule"), "--pidfile", ""],
        ),
    ]


def preparations(home: Path) -> list[Preparation]:
    """Migrations, then the demo tenant with fresh tokens."""
    manage = [sys.executable, "manage.py"]
    return [
        Preparation("prepare", "Preparing the database", "The database is up to date", [*manage, "prepare"]),
        Preparation(
            "demo",
            "Preparing the demo tenant",
            "The demo tenant is ready",
            [*manage, "demo", "--output", str(home / "demo.json")],
        ),
    ]
