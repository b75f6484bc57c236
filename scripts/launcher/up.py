"""`scripts/up`, its second half: servers, database, services, addresses; then watching over them until told to stop."""

import argparse
import contextlib
import http.client
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.launcher.console import Console, fail
from scripts.launcher.embedded import Servers, embedded_servers
from scripts.launcher.failures import LauncherError
from scripts.launcher.home import ROOT, home_from_environment
from scripts.launcher.interruptions import StopRequested, ignore, listen, pause
from scripts.launcher.log_lines import for_people
from scripts.launcher.ports import Address, address_from_environment, require_free
from scripts.launcher.processes import RUN_VARIABLE, end_run, kill_group, spawn, stop
from scripts.launcher.running import Hold, Note
from scripts.launcher.secret_values import Secrets, secrets_of
from scripts.launcher.services import Preparation, Service, preparations, services
from scripts.launcher.supervisor import Supervisor

# Services, then servers (4 s), then whatever is left: together under the 10 s that stopping may take.
_SERVICES_STOP_WITHIN_S = 4.0
_LEFTOVERS_STOP_WITHIN_S = 5.0
_READY_WITHIN_S = 90.0
_CHECK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, where and under which project root."""

    root: Path
    home: Path
    address: Address
    preparations: Sequence[Preparation]
    services: Sequence[Service]


def main(arguments: list[str]) -> int:
    """Returns 0 when it was asked to stop, 1 when something failed; the message is printed then."""
    parser = argparse.ArgumentParser(
        prog="scripts/up",
        description="Bring MessageCore up on this machine and stay in the foreground; Ctrl-C stops it.",
        epilog="Environment: PORT (8000), HOST (127.0.0.1), MESSAGECORE_HOME (.messagecore), DATABASE_URL, REDIS_URL.",
    )
    parser.parse_args(arguments)
    console = Console()
    listen()
    try:
        home = home_from_environment()
        plan = Plan(
            root=ROOT,
            home=home,
            address=address_from_environment(),
            preparations=preparations(home),
            services=services(home),
        )
        run(plan, console=console)
    except LauncherError as error:
        return fail(error)
    except PermissionError as error:
        return fail(
            LauncherError(f"No permission for {error.filename}.", hint="Did another user start it here before?")
        )
    except StopRequested:
        pass
    return 0


def run(plan: Plan, *, console: Console) -> None:
    """Start everything and watch over it. Ends by an exception alone: StopRequested, or LauncherError for a failure.

    However it ends, every process is gone by then, within 10 s of the signal.
    """
    hold = Hold(plan.home)
    if hold.left is not None:
        ended = end_run(hold.left.run_id, within_s=_LEFTOVERS_STOP_WITHIN_S)
        if ended:
            console.good(f"Ended {ended} processes that an interrupted run had left")
    try:
        require_free(plan.address)
    except LauncherError:
        hold.release()
        raise
    run_id = secrets.token_hex(8)
    hold.write(Note(pid=os.getpid(), run_id=run_id, url=plan.address.url))
    began = time.monotonic()
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(_leave, hold, run_id, console)
        kept = secrets_of(plan.home)
        servers = cleanup.enter_context(_servers(plan.home, kept, run_id=run_id, console=console))
        # First to run at the end: the stopping itself is not interrupted, and its time is counted from the signal.
        cleanup.callback(ignore)
        env = _environment(plan, servers, kept, run_id=run_id)
        logs = plan.home / "logs"
        for preparation in plan.preparations:
            _prepare(preparation, env=env, root=plan.root, logs=logs, console=console)
        supervisor = Supervisor(
            plan.services,
            console=console,
            env=env,
            cwd=plan.root,
            logs=logs,
            servers=[server.child for server in (servers.postgres, servers.valkey) if server is not None],
        )
        cleanup.callback(_stop, supervisor, console)
        supervisor.start()
        _wait_until_ready(supervisor, plan.address, console=console)
        _announce(plan, console=console, seconds=time.monotonic() - began)
        while True:
            pause(_CHECK_EVERY_S)
            supervisor.check()


@contextlib.contextmanager
def _servers(home: Path, kept: Secrets, *, run_id: str, console: Console) -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        with console.step("Starting PostgreSQL and Valkey") as step:
            servers = stack.enter_context(
                embedded_servers(
                    home,
                    database_url=os.environ.get("DATABASE_URL", "").strip(),
                    redis_url=os.environ.get("REDIS_URL", "").strip(),
                    run_id=run_id,
                    valkey_password=kept.valkey_password,
                )
            )
            postgres = f"PostgreSQL {servers.postgres.version}" if servers.postgres else "PostgreSQL of DATABASE_URL"
            valkey = f"Valkey {servers.valkey.version}" if servers.valkey else "Redis of REDIS_URL"
            step.done = f"{postgres} and {valkey}"
        yield servers


def _environment(plan: Plan, servers: Servers, kept: Secrets, *, run_id: str) -> dict[str, str]:
    env = dict(os.environ)
    for name in ("MESSAGECORE_CALLER_DIR", "DJANGO_SETTINGS_MODULE"):
        env.pop(name, None)
    return env | {
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "MESSAGECORE_SECRET_KEY": env.get("MESSAGECORE_SECRET_KEY") or kept.secret_key,
        "MESSAGECORE_MODE": "demo",
        "MESSAGECORE_HOME": str(plan.home),
        "HOST": plan.address.host,
        "PORT": str(plan.address.port),
        "PYTHONUNBUFFERED": "1",
        RUN_VARIABLE: run_id,
    }


def _prepare(preparation: Preparation, *, env: Mapping[str, str], root: Path, logs: Path, console: Console) -> None:
    """Run a command to its end, its last line shown as progress. Raises LauncherError with the end of its log."""
    log_path = logs / f"{preparation.key}.log"
    log_path.unlink(missing_ok=True)
    with console.step(preparation.doing) as step:
        child = spawn(preparation.key, preparation.command, env=env, cwd=root, log_path=log_path)
        try:
            while child.running():
                step.note("".join(child.log_tail(1))[:70])
                pause(0.05)
        except BaseException:
            stop([child], within_s=2)
            kill_group(child.pid)
            raise
        if child.process.returncode != 0:
            tail = "".join(f"\n    {line}" for line in for_people(child.log_tail(12)))
            raise LauncherError(f"{preparation.doing} failed ({child.ended()}). The end of {log_path}:{tail}")
        step.done = preparation.done


def _wait_until_ready(supervisor: Supervisor, address: Address, *, console: Console) -> None:
    with console.step("Starting web server, worker and scheduler") as step:
        deadline = time.monotonic() + _READY_WITHIN_S
        while (answer := _readiness(address)) != 200:
            supervisor.check()
            if time.monotonic() > deadline:
                raise LauncherError(
                    f"The web server was not ready after {_READY_WITHIN_S:.0f} s (last answer: {answer or 'none'})."
                )
            step.note("waiting for it to answer" if answer is None else f"it answers {answer}")
            pause(0.1)
        step.done = "Web server, worker and scheduler are running"


def _readiness(address: Address) -> int | None:
    """The status of GET /ready, or None while nobody answers."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound
    connection = http.client.HTTPConnection(host, address.port, timeout=5)
    try:
        connection.request("GET", "/ready", headers={"Host": f"localhost:{address.port}"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _announce(plan: Plan, *, console: Console, seconds: float) -> None:
    path = plan.home / "demo.json"
    demo = json.loads(path.read_text(encoding="utf-8"))
    base = demo["baseUrl"]
    names = ", ".join(user["displayName"] or user["externalUserId"] for user in demo["users"])
    rows = [
        ("Demo chat", f"{base}/demo/", names),
        ("Admin", demo["admin"]["url"], f"{demo['admin']['username']} / {demo['admin']['password']}"),
        ("API docs", f"{base}/api/docs/", ""),
        ("API key", demo["apiKey"], f"of the tenant {demo['tenant']['name']}"),
        ("Everything", str(path), "keys, tokens and ids, for scripts"),
        ("Logs", str(plan.home / "logs"), ""),
    ]
    width = max(len(value) for _, value, _ in rows[:3])
    console.line()
    console.line(f"MessageCore is running (started in {seconds:.1f} s).")
    console.line()
    for label, value, remark in rows:
        console.line(f"  {label:<11} {value:<{width}}  {remark}".rstrip())
    console.line()
    console.line("Ctrl-C stops it.")


def _stop(supervisor: Supervisor, console: Console) -> None:
    ignore()
    console.clear()
    console.line("Stopping …")
    killed = supervisor.stop(within_s=_SERVICES_STOP_WITHIN_S)
    if killed:
        console.line(f"  by force: {', '.join(killed)}")


def _leave(hold: Hold, run_id: str, console: Console) -> None:
    """The last thing: make sure that nothing of this run is left, then let the home go."""
    end_run(run_id, within_s=0.5)
    hold.release()
    console.good("Everything is stopped; the data stays.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
