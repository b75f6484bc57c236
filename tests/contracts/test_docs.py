"""The documents, held to the code: links lead somewhere, and names and numbers are those that run."""

import ast
import functools
import importlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import get_commands
from prometheus_client.metrics import MetricWrapperBase

from messagecore.kernel import catalogue, metrics
from realtime.commands import HANDLERS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
READMES = ("README.md", "README.zh-CN.md")

FENCE = re.compile(r"^```\w*\n.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text_of(document: str | Path) -> str:
    return (ROOT / document).read_text("utf-8")


def part_of(document: str, name: str) -> str:
    """What stands between `<!-- name: begin -->` and `<!-- name: end -->`."""
    found = re.search(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", text_of(document), re.DOTALL)
    assert found is not None
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows, without heads and rules."""
    lines = [line.strip().strip("|").split("|") if line.startswith("|") else [""] for line in text.splitlines()]
    cells = [[cell.strip() for cell in line] for line in lines]
    heads = {number - 1 for number, row in enumerate(cells) if _is_rule(row)}
    return [row for number, row in enumerate(cells) if row != [""] and not _is_rule(row) and number not in heads]


def _is_rule(row: list[str]) -> bool:
    return all(re.fullmatch(r"-+", cell) for cell in row)


# --- links ----------------------------------------------------------------------------------------------------------


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text("utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", document.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.is_relative_to(ROOT) or not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert broken == []


def test_every_document_can_be_found_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        if document in reached or document.suffix != ".md" or not document.exists():
            continue
        reached.add(document)
        targets = LINK.findall(FENCE.sub("", document.read_text("utf-8")))
        waiting += [(document.parent / target.partition("#")[0]).resolve() for target in targets if ":" not in target]
    assert set(DOCUMENTS) - reached == set()


# --- the READMEs ----------------------------------------------------------------------------------------------------


def test_the_readmes_say_the_same() -> None:
    english, chinese = map(text_of, READMES)
    assert FENCE.findall(english) == FENCE.findall(chinese)
    assert FENCE.findall(english)[:2] == ["```sh\n./scripts/up\n```", "```sh\n./scripts/test\n```"]
    headings = [re.findall(r"^(#+) ", FENCE.sub("", text), re.MULTILINE) for text in (english, chinese)]
    assert headings[0] == headings[1]
    own = set(READMES)
    linked = [[link for link in LINK.findall(text) if link not in own] for text in (english, chinese)]
    assert linked[0] == linked[1]
    assert [len(rows(text)) for text in (english, chinese)] == [len(rows(english))] * 2


@pytest.mark.parametrize("readme", READMES)
def test_the_readme_names_the_commands_that_are_missing(readme: str) -> None:
    missing = set(catalogue.commands()) - set(HANDLERS) - {"authenticate", "resume"}  # the consumer's own
    status = re.split(r"^## ", text_of(readme), flags=re.MULTILINE)[-1]
    assert set(re.findall(r"`([a-z_]+)`", status)) - set(catalogue.errors()) == missing


def test_the_readme_shows_every_room() -> None:
    for readme in READMES:
        named = {room for row in rows(text_of(readme)) for room in re.findall(r"`(\w+)/`", row[0])}
        present = {path.parts[0] for path in (file.relative_to(ROOT) for file in ROOT.glob("*/__init__.py"))} | {
            "docs",
            "templates",
            "locale",
        }
        assert named == present


# --- operations -----------------------------------------------------------------------------------------------------


def _environment() -> Iterator[tuple[str, Any]]:
    """Every variable that env.py reads, with its default where that is a literal, else an ellipsis."""
    tree = ast.parse(text_of("messagecore/settings/env.py"))
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        if call.func.id in {"_text", "_integer", "_flag", "_listed"} and isinstance(call.args[0], ast.Constant):
            default = call.args[1] if len(call.args) > 1 else ast.Constant("")
            computed = call.keywords and call.func.id == "_flag"
            yield call.args[0].value, default.value if isinstance(default, ast.Constant) and not computed else ...


def test_every_variable_of_the_environment_is_described() -> None:
    described = {row[0].strip("`"): row[1].strip("`") for row in rows(part_of("docs/operations.md", "environment"))}
    read = dict(_environment())
    assert len(read) > 20
    assert described.keys() == read.keys()
    for name, default in read.items():
        if default not in ("", ...):
            assert described[name] == str(default), name


def test_every_metric_is_described() -> None:
    described = {row[0].strip("`"): (row[1], row[2]) for row in rows(part_of("docs/operations.md", "metrics"))}
    kept = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            kept[name] = (family.type, ", ".join(f"`{label}`" for label in metric._labelnames))
    asked = re.findall(r'GaugeMetricFamily\(\s*"(\w+)"', text_of("messagecore/operations.py"))
    assert len(kept) > 10
    assert len(asked) == 4
    assert described.keys() == kept.keys() | set(asked)
    assert {name: described[name] for name in kept} == kept


# --- limits ---------------------------------------------------------------------------------------------------------

UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "h": 3600, "days": 86_400}


def _said(cell: str) -> float:
    """The number in the words of a limit: bytes, seconds, or a count."""
    found = re.match(r"([\d,.]+)(?: (\w+))?", cell)
    assert found is not None, cell
    return float(found[1].replace(",", "")) * UNITS.get(found[2] or "", 1)


def _set(place: str) -> float:
    """The value at `file.json#/pointer` of the catalogue, or of `module.NAME`."""
    if ".json#" in place:
        file, _, pointer = place.partition("#/")
        document = json.loads(text_of(f"docs/protocol/{file}"))
        return float(functools.reduce(lambda value, key: value[key], pointer.split("/"), document))
    module, _, name = place.rpartition(".")
    value = (
        getattr(settings, name) if module == "django.conf.settings" else getattr(importlib.import_module(module), name)
    )
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


LIMITS = [(row[0], row[1], row[-1].strip("`")) for row in rows(text_of("docs/limits.md")) if row[-1].startswith("`")]


def test_most_limits_name_their_place() -> None:
    assert len(LIMITS) > 30


@pytest.mark.parametrize(("what", "said", "place"), LIMITS, ids=[place for *_, place in LIMITS])
def test_limits_are_those_of_the_code(what: str, said: str, place: str) -> None:
    assert _said(said) == _set(place), what


def test_plans_are_those_that_an_installation_begins_with() -> None:
    migration = importlib.import_module("quotas.migrations.0002_plans")
    described = [
        (row[0].strip("`"), *(int(cell.replace(",", "")) for cell in row[1:]))
        for row in rows(part_of("docs/limits.md", "plans"))
    ]
    assert described == [
        (plan, users, messages, days, storage // 1024**3, connections)
        for plan, _, users, messages, days, storage, connections in migration.PLANS
    ]


def test_commands_of_the_operators_exist() -> None:
    """As ours: another app's command of the same name would be run in its place."""
    commands = get_commands()
    described = re.findall(r"^\| `manage\.py (\w+)", text_of("docs/operations.md"), re.MULTILINE)
    assert len(described) > 3
    ours = {"tenants", "quotas", "messaging", "messagecore"}
    assert {name: commands.get(name) for name in described if commands.get(name) not in ours} == {
        "check": "django.core"
    }
