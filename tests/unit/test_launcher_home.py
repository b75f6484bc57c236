"""A home: where it is, who holds it, its secrets; and the address that is asked for."""

import io
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.launcher.console import Console
from scripts.launcher.failures import LauncherError
from scripts.launcher.home import ROOT, home_from_environment
from scripts.launcher.ports import Address, address_from_environment, require_free
from scripts.launcher.running import Hold, Note, left_behind
from scripts.launcher.secret_values import secrets_of

HOLD_AND_WAIT = (
    "import pathlib, sys\n"
    "from scripts.launcher.running import Hold, Note\n"
    "hold = Hold(pathlib.Path(sys.argv[1]))\n"
    "hold.write(Note(pid=4711, run_id='abc', url='http://localhost:8123'))\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()"
)


def test_a_home_is_seen_from_where_the_caller_stood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MESSAGECORE_CALLER_DIR", str(tmp_path))
    monkeypatch.setenv("MESSAGECORE_HOME", "a/../b c")
    assert home_from_environment() == tmp_path.resolve() / "b c"
    monkeypatch.delenv("MESSAGECORE_HOME")
    assert home_from_environment() == ROOT / ".messagecore"


def test_a_home_that_is_a_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MESSAGECORE_HOME", str(tmp_path / "file"))
    with pytest.raises(LauncherError, match="is not a directory"):
        home_from_environment()


def test_a_held_home_names_its_holder_and_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_WAIT, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        for attempt in (lambda: left_behind(tmp_path), lambda: Hold(tmp_path)):
            with pytest.raises(LauncherError, match=r"already running .*, pid 4711, at http://localhost:8123"):
                attempt()
    finally:
        holder.kill()
        holder.communicate()

    assert left_behind(tmp_path)
    hold = Hold(tmp_path)
    assert hold.left == Note(pid=4711, run_id="abc", url="http://localhost:8123")
    hold.release()
    assert not left_behind(tmp_path)


def test_secrets_are_made_once_and_are_their_owners_alone(tmp_path: Path) -> None:
    made = secrets_of(tmp_path)

    assert secrets_of(tmp_path) == made
    assert len(made.secret_key) == 64
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "secrets.json").read_text()) == {
        "secretKey": made.secret_key,
        "valkeyPassword": made.valkey_password,
    }


def test_spoilt_secrets_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(LauncherError, match="cannot be understood"):
        secrets_of(tmp_path)
    assert (tmp_path / "secrets.json").read_text() == "{"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "80 80", "８０００"])
def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("PORT", port)
    with pytest.raises(LauncherError, match="PORT must be a number from 1 to 65535"):
        address_from_environment()


def test_an_empty_port_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    monkeypatch.setenv("HOST", "")
    assert address_from_environment() == Address(host="127.0.0.1", port=8000)


def test_a_busy_port_is_said_in_one_sentence_with_a_free_one_beside_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LauncherError) as caught:
            require_free(Address(host="127.0.0.1", port=port))
    assert str(caught.value) == f"Port {port} is in use by another program."
    assert caught.value.hint.startswith("Choose another: PORT=")
    require_free(Address(host="127.0.0.1", port=port))


def test_addresses_are_written_for_a_browser() -> None:
    assert Address(host="0.0.0.0", port=1).url == "http://127.0.0.1:1"
    assert Address(host="192.0.2.7", port=1).url == "http://192.0.2.7:1"
    assert Address(host="::1", port=1).url == "http://[::1]:1"


def test_without_a_terminal_there_are_no_control_codes() -> None:
    said = io.StringIO()
    console = Console(said)
    with console.step("Doing") as step:
        step.note("half")
        step.done = "Done"
    with pytest.raises(LauncherError), console.step("Failing"):
        raise LauncherError("no")
    assert said.getvalue() == "✓ Done (0.0 s)\n✗ Failing (0.0 s)\n"


def test_the_shell_half_works_through_links_and_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "a link").symlink_to(ROOT / "scripts" / "up")
    (tmp_path / "relative").symlink_to("a link")
    env = dict(os.environ) | {"MESSAGECORE_VENV": sys.prefix, "PORT": "none"}
    env.pop("MESSAGECORE_CALLER_DIR", None)

    done = subprocess.run(["./relative"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "✗ PORT must be a number from 1 to 65535, not 'none'.\n"


def test_without_a_python_the_shell_half_says_which_it_needs(tmp_path: Path) -> None:
    for program in ("sh", "dirname", "readlink"):
        found = next(path for path in (Path("/bin"), Path("/usr/bin")) if (path / program).exists())
        (tmp_path / program).symlink_to(found / program)
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)

    done = subprocess.run(
        [tmp_path / "sh", ROOT / "scripts" / "up"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        "MessageCore needs Python 3.11 or newer, and none was found on PATH.",
        "  python3 is Python 3.9.2.",
    ]
