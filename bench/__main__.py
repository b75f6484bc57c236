"""`python -m bench NAME`: runs a workload on a database of its own, made for it on the server that is named."""

import argparse
import importlib
import logging
import os
import sys
from io import StringIO
from pathlib import Path

import django
import psycopg
from django.core.management import call_command
from django.db import connections
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.options import Options

WORKLOADS = ("messaging", "recovery", "sockets")
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str]) -> int:
    """0: the workload ran and its results are written. Says nothing about whether targets are met."""
    given = _parse(arguments)
    server = os.environ.get("DATABASE_URL")
    if not server:
        print("DATABASE_URL is not set: `scripts/bench` starts throw-away servers.", file=sys.stderr)
        return 2
    own = sql.Identifier(given.database)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(own))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(own))
    try:
        # Settings read the environment once, when Django is set up; so this comes before, and the workload after.
        os.environ["DATABASE_URL"] = make_conninfo("", **(conninfo_to_dict(server) | {"dbname": given.database}))
        os.environ.setdefault("MESSAGECORE_MODE", "test")
        os.environ["DJANGO_SETTINGS_MODULE"] = "messagecore.settings"
        django.setup()
        logging.disable(logging.INFO)
        call_command("prepare", stdout=StringIO())
        options = Options(scale=given.scale, repetitions=given.repetitions, output=given.output)
        importlib.import_module(f"bench.{given.workload}").run(options)
    finally:
        connections.close_all()
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(own))
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full size (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=300, help="of every request (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results (default: bench/results)")
    parser.add_argument(
        "--database", default="messagecore_bench", help="made anew, and dropped at the end (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    if not 0 < given.scale <= 10 or given.repetitions < 1:
        parser.error("--scale is above 0 and at most 10, --repetitions at least 1")
    return given


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
