"""What the OpenAPI and the AsyncAPI document share: the catalogue's definitions as `components.schemas`."""

from collections.abc import Iterable, Iterator
from typing import Any

from messagecore.kernel import catalogue
from messagecore.kernel.catalogue import Schema

KEY_DESCRIPTION = "`mc_sk_…` or `mc_pk_…`"
TOKEN_DESCRIPTION = "A user token"  # noqa: S105 - words about it


def pointer_to(name: str) -> str:
    return f"#/components/schemas/{name}"


def reference(name: str) -> dict[str, str]:
    return {"$ref": pointer_to(name)}


def schemas() -> dict[str, Schema]:
    """Every definition of the catalogue, its references made to point into `components.schemas`."""
    return {name: catalogue.rewrite_references(schema, pointer_to) for name, schema in catalogue.definitions().items()}


def schemas_behind(names: Iterable[str]) -> dict[str, Schema]:
    """The definitions of these names and all that they refer to, in the catalogue's order."""
    every = schemas()
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += names_in(every[name])
    return {name: schema for name, schema in every.items() if name in reached}


def names_in(value: Any) -> Iterator[str]:
    """The definitions that the references in a schema, or in a whole document, name."""
    if isinstance(value, dict):
        target = value.get("$ref")
        if isinstance(target, str) and target == pointer_to(target.rpartition("/")[2]):
            yield target.rpartition("/")[2]
        for part in value.values():
            yield from names_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from names_in(part)
