"""The generated pages of docs/reference say what runs."""

import pytest

from messagecore.reference import FOLDER, PAGES, routes
from messaging.models import Role
from messaging.roles import Action, may
from tests.contracts.test_docs import rows
from tests.isolation.test_routes import ROUTES

COMMAND = "MESSAGECORE_MODE=test python manage.py render_reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"docs/reference/{name} is behind the code; run: {COMMAND}"


def test_every_page_is_generated() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


def test_every_route_has_its_row() -> None:
    table = {row[0].strip("`"): row for row in rows(PAGES["routes.md"]())}
    assert table.keys() == {str(route) for route in ROUTES} == {f"{route.method} {route.path}" for route in routes()}
    for route in ROUTES:
        _, summary, scope, query, body, data, errors = table[str(route)]
        assert summary == route.operation.summary
        assert scope.strip("`") == (route.operation.scope or "")
        assert [param.name for param in route.operation.query] == [
            name.split("`")[1] for name in query.split(", ") if name
        ]
        assert (route.operation.request or "") in body
        assert (route.operation.response or "") in data
        assert errors.replace("`", "").split(", ") == (list(route.operation.errors) or [""])


def test_the_table_of_roles_is_that_of_the_code() -> None:
    table = {row[0]: row[1:] for row in rows(PAGES["roles.md"]())}
    assert table.keys() == {action.value.replace("_", " ") for action in Action}
    for action in Action:
        by_role = [cell == "yes" for cell in table[action.value.replace("_", " ")]]
        assert by_role == [may(role, action) for role in Role]
