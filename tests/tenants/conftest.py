"""What the tests of tenants are given."""

from collections.abc import Iterator

import pytest

from tests.accounts import Account, drop_account, open_test_account


@pytest.fixture
def pair(committed: None) -> Iterator[tuple[Account, Account]]:
    """Two committed tenants, each with a user that bears its name."""
    accounts = open_test_account(), open_test_account()
    for account, name in zip(accounts, ("a", "b"), strict=True):
        account.user(name)
    yield accounts
    for account in accounts:
        drop_account(account)
