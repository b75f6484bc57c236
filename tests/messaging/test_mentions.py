"""Mentions: people of the conversation, `here` and `channel`."""

import pytest

from tests.accounts import Account, draft

pytestmark = pytest.mark.core


def test_people_and_words_are_kept_in_order_each_once(tenant: Account) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    room = tenant.conversation(ada, bob)
    sent = tenant.message(room, ada, "all of you", mentions=["channel", "bob", bob["id"], "here"])
    assert sent["mentions"] == ["channel", bob["id"], "here"]


def test_the_words_win_over_a_user_who_is_called_so(tenant: Account) -> None:
    ada, here = tenant.user("ada"), tenant.user("here")
    room = tenant.conversation(ada, here)
    assert tenant.message(room, ada, mentions=["here"])["mentions"] == ["here"]
    assert tenant.message(room, ada, mentions=[here["id"]])["mentions"] == [here["id"]]


@pytest.mark.parametrize("verb", ["send", "edit"])
def test_whoever_is_not_in_the_conversation_cannot_be_mentioned(tenant: Account, verb: str) -> None:
    ada, bob, _eve = tenant.user("ada"), tenant.user("bob"), tenant.user("eve")
    room = tenant.conversation(ada, bob)
    message = tenant.message(room, ada)
    mentions = ["bob", "eve", "here"]
    if verb == "send":
        answer = tenant.api.post("/messages/send", draft(room, ada, mentions=mentions))
    else:
        answer = tenant.api.patch(f"/messages/{message['id']}", {"content": {"text": "x"}, "mentions": mentions})
    assert (answer.status, answer.pointers) == (422, ["/mentions/1"])
    assert tenant.api.get(f"/messages/conversations/{room['id']}").data["messages"] == [message]


def test_nobody_is_mentioned_by_a_name_that_is_nobodys(tenant: Account) -> None:
    ada = tenant.user("ada")
    room = tenant.conversation(ada)
    answer = tenant.api.post("/messages/send", draft(room, ada, mentions=["ada", "@here", "nobody"]))
    assert (answer.status, answer.pointers) == (422, ["/mentions/1", "/mentions/2"])


def test_ten_thousand_mentions_are_refused(tenant: Account) -> None:
    ada = tenant.user("ada")
    room = tenant.conversation(ada)
    names = [f"user-{number}" for number in range(10_000)]
    answer = tenant.api.post("/messages/send", draft(room, ada, mentions=names))
    assert (answer.status, answer.pointers) == (422, ["/mentions"])


def test_a_reply_names_no_message_from_before_the_view(tenant: Account) -> None:
    ada, bob = tenant.users(2)
    room = tenant.conversation(ada)
    early = tenant.message(room, ada)
    body = {"participantIds": [bob["id"]], "showHistory": False}
    tenant.api.post(f"/conversations/{room['id']}/participants", body)
    answer = tenant.api.post("/messages/send", draft(room, bob, replyToId=early["id"]))
    assert answer.code == "message_not_found"
