"""Choosing and making the virtual environment: what counts as whole, and what a failure says."""

import io
import sys
from pathlib import Path

import pytest

from scripts.launcher.console import Console
from scripts.launcher.environment import lacking, python_for
from scripts.launcher.failures import LauncherError
from scripts.launcher.home import ROOT

LOCK = """\
# made by a tool
alpha==1.0 \\
    --hash=sha256:00
Beta_Gamma==2.1.post1 \\
    --hash=sha256:00
    # via alpha
windows-only==3 ; sys_platform == 'win32' \\
    --hash=sha256:00
"""
# Nothing that listens: a request to it is refused at once.
NOWHERE = "http://127.0.0.1:9/simple"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "requirements.lock").write_text(LOCK)
    return tmp_path


def make_environment(at: Path, *installed: str) -> Path:
    packages = at / "lib" / "python3.11" / "site-packages"
    for name in installed:
        (packages / f"{name}.dist-info").mkdir(parents=True)
    (at / "bin").mkdir(parents=True, exist_ok=True)
    (at / "bin" / "python").symlink_to(sys.executable)
    return at


def test_names_are_compared_as_the_index_does_and_conditional_pins_passed_over(project: Path) -> None:
    venv = make_environment(project / "v", "alpha-1.0", "beta_gamma-2.1.post1")
    assert lacking(venv, project / "requirements.lock") == []


def test_another_version_is_lacking(project: Path) -> None:
    venv = make_environment(project / "v", "alpha-1.1")
    assert lacking(venv, project / "requirements.lock") == ["alpha==1.0", "beta-gamma==2.1.post1"]


def test_the_lock_of_this_repository_is_satisfied_where_the_tests_run() -> None:
    assert lacking(Path(sys.prefix), ROOT / "requirements.lock") == []


def test_a_named_environment_is_used_or_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_environment(project / "whole", "alpha-1.0", "beta_gamma-2.1.post1")
    monkeypatch.setenv("MESSAGECORE_VENV", str(whole))
    console = Console(io.StringIO())
    assert python_for(root=project, home=project / "home", console=console) == whole / "bin" / "python"

    monkeypatch.setenv("MESSAGECORE_VENV", str(make_environment(project / "poor", "alpha-1.0")))
    with pytest.raises(LauncherError, match=r"lacks beta-gamma==2\.1\.post1\.$"):
        python_for(root=project, home=project / "home", console=console)
    assert not (project / "home").exists()


def test_an_active_environment_is_used_only_if_it_is_whole(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESSAGECORE_VENV", raising=False)
    whole = make_environment(project / "whole", "alpha-1.0", "beta_gamma-2.1.post1")
    monkeypatch.setenv("VIRTUAL_ENV", str(whole))
    assert python_for(root=project, home=project / "home", console=Console(io.StringIO())) == whole / "bin" / "python"


def test_an_index_out_of_reach_is_said_and_repaired_by_the_next_start(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MESSAGECORE_VENV", "VIRTUAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": NOWHERE,
        "PIP_RETRIES": "1",
        "PIP_FIND_LINKS": "",
        "PATH": "/usr/bin:/bin",  # no uv
    }.items():
        monkeypatch.setenv(name, value)
    said = io.StringIO()
    home = project / "home"

    with pytest.raises(LauncherError, match="package index could not be reached"):
        python_for(root=project, home=home, console=Console(said))
    assert "✗ Installing 2 packages" in said.getvalue()

    # Nothing to install: the half-made environment is made anew and is whole.
    (project / "requirements.lock").write_text("# nothing\n")
    left = home / "venv" / "left-by-the-interruption"
    left.touch()
    python = python_for(root=project, home=home, console=Console(said))
    assert python == home / "venv" / "bin" / "python"
    assert not left.exists()

    said.truncate(0)
    assert python_for(root=project, home=home, console=Console(said)) == python
    assert "Installing" not in said.getvalue()
