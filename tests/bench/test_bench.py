"""The bench runs by its one command, and writes what it promises. How fast anything is is not said here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from bench.words import COMMON, RARE, Texts
from messaging.search.words import tokens
from scripts.launcher.home import ROOT

REQUESTS = 13


def run(*arguments: str | Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_workload_of_messaging_runs(process_environment: dict[str, str], tmp_path: Path) -> None:
    name = f"{settings.TEST_DATABASE}_bench"
    arguments = ("messaging", "--scale", "0.003", "--repetitions", "2", "--output", tmp_path, "--database", name)
    done = run(*arguments, env=process_environment)
    assert done.returncode == 0, done.stderr

    figures = (tmp_path / "messaging.md").read_text("utf-8")
    rows = re.findall(r"^\| [^|]+ \| [\d.]+, [\d.]+ \| [\d.]+, [\d.]+ \| \*\*[\d.]+\*\* \|", figures, re.MULTILINE)
    assert len(rows) == REQUESTS
    assert "| small | 1,000 | 500 (100 members) |" in figures
    assert "| large | 3,000 | 1,500 (100 members) |" in figures
    assert re.search(r"^1,000 lines of messages through .* \*\*[\d,]+ lines a second\*\*", figures, re.MULTILINE)
    assert str(ROOT) not in figures

    plans = (tmp_path / "messaging-explain.txt").read_text("utf-8")
    assert len(re.findall(r"^=+\n.+\n=+$", plans, re.MULTILINE)) == REQUESTS
    statements = re.findall(r"^-- (\d+) of (\d+)$", plans, re.MULTILINE)
    assert len(statements) >= 2 * REQUESTS
    assert plans.count("Execution Time:") == len(statements)
    assert "Buffers: shared" in plans


def test_the_workload_of_recovery_runs(process_environment: dict[str, str], tmp_path: Path) -> None:
    name = f"{settings.TEST_DATABASE}_bench"
    arguments = ("recovery", "--scale", "0.01", "--repetitions", "1", "--output", tmp_path, "--database", name)
    done = run(*arguments, env=process_environment)
    assert done.returncode == 0, done.stderr
    figures = (tmp_path / "recovery.md").read_text("utf-8")
    assert "20 clients, each in about 5 conversations of 10" in figures
    assert re.findall(r"^\| 1 \| 10 \| [\d.]+ s \| [\d.]+ s \| \*\*[\d.]+ s\*\* \|", figures, re.MULTILINE)
    assert str(ROOT) not in figures


def test_the_workload_of_sockets_runs(process_environment: dict[str, str], tmp_path: Path) -> None:
    name = f"{settings.TEST_DATABASE}_bench"
    arguments = ("sockets", "--scale", "0.002", "--repetitions", "1", "--output", tmp_path, "--database", name)
    done = run(*arguments, env=process_environment)
    assert done.returncode == 0, done.stderr

    figures = (tmp_path / "sockets.md").read_text("utf-8")
    idle = re.findall(r"^\| ([a-z -]+) \| (\d+) \| (\d+) \| \*\*-?[\d.]+ KiB\*\* \|", figures, re.MULTILINE)
    assert idle == [("idle", "20", "20"), ("permessage-deflate", "10", "20"), ("many conversations", "10", "20")]
    resume = re.findall(
        r"^\| ([a-z ]+) \| 100 \| (1|100) \| [^|]+ms \([\d.]+\) \|.+\*\*[\d.]+\*\* \| 1.5 \|", figures, re.M
    )
    assert resume == [("one conversation", "1"), ("spread", "100")]
    sends = re.findall(r"^\| (before|during|after) \| (\d+) \| [\d.]+ ms \| [\d.]+ ms \|", figures, re.MULTILINE)
    assert [phase for phase, _ in sends] == ["before", "during", "after"]
    assert int(sends[0][1]) >= 100
    # Whoever stays away is told of to each of the watchers, and who comes back as well: once.
    told = re.findall(r"^\| all [a-z0-9 ]+ \| (\d+, \d+) \| \*\*(\d)\*\* \| [01] \| met \|", figures, re.MULTILINE)
    assert told == [("0, 0", "0"), ("20, 20", "1"), ("20, 20", "1")]
    assert str(ROOT) not in figures


def test_without_a_server_it_says_what_to_do(process_environment: dict[str, str]) -> None:
    env = {name: value for name, value in process_environment.items() if name != "DATABASE_URL"}
    done = run("messaging", env=env)
    assert done.returncode == 2
    assert done.stderr == "DATABASE_URL is not set: `scripts/bench` starts throw-away servers.\n"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_are_as_frequent_as_promised(language: str) -> None:
    texts = Texts(7)
    made = [texts.text() for _ in range(4_000)]
    common = sum(COMMON[language] in text for text in made) / len(made)
    assert 0.27 < common < 0.33
    assert not any(RARE[language] in text for text in made)
    assert RARE[language] in [token.characters for token in tokens(texts.text(rare=True))]
