"""The fixed route that sends, and what a message is afterwards."""

import pytest

from tests.accounts import Account

pytestmark = pytest.mark.core


def test_the_first_message_of_a_conversation_has_seq_1(tenant: Account) -> None:
    ada = tenant.user("ada")
    assert tenant.message(tenant.conversation(ada), ada)["seq"] == 1
