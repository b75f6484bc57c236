"""The tests. This level holds what they share: the settings, the database, accounts, the checking API client."""

import pytest

pytest.register_assert_rewrite("tests.api", "tests.accounts")
