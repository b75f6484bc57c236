"""The demo page as people meet it, in a real browser against real servers."""

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from tests.browser.stage import Complaints, Demo, Open

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
RECONNECTED_WITHIN_MS = 45_000


def unique(text: str) -> str:
    return f"{text} {uuid.uuid4().hex[:8]}"


def pane(page: Page, slot: str) -> Locator:
    return page.locator(f".pane[data-slot={slot}]")


def write(pane: Locator, text: str) -> None:
    field = pane.get_by_role("textbox")
    field.fill(text)
    field.press("Enter")


def message(pane: Locator, text: str) -> Locator:
    return pane.locator(".message").filter(has=pane.page.get_by_text(text, exact=True))


def sent(pane: Locator, text: str) -> Locator:
    """A message that the server has."""
    return message(pane, text).and_(pane.locator(".message:not(.is-waiting, .is-failed)"))


def listed(pane: Locator, title: str) -> Locator:
    """The row of that title; its person may be named in what was said last elsewhere."""
    named = pane.page.locator(".title").get_by_text(title, exact=True)
    return pane.locator(".conversation").filter(has=named)


def open_conversation(pane: Locator, title: str) -> None:
    if not pane.locator(".conversations").is_visible():
        pane.locator(".back").click()
    listed(pane, title).click()
    expect(pane.locator(".chat-title")).to_have_text(title)


# --- chatting -------------------------------------------------------------------------------------------------------


def test_two_people_chat_side_by_side_and_see_typing_and_presence(open_page: Open) -> None:
    page = open_page()
    left, right = pane(page, "left"), pane(page, "right")
    for side in (left, right):
        expect(side.locator(".connection")).to_have_text("Connected")
    expect(left.locator(".person-status[data-user=wang-fang]")).to_contain_text("online")
    expect(right.locator(".person-status[data-user=alice]")).to_contain_text("online")
    expect(left.locator(".person-status[data-user=daniel]")).not_to_contain_text("online")

    left.get_by_role("textbox").press_sequentially("typing", delay=20)
    expect(right.locator(".typing")).to_have_text("Alice is typing…")
    expect(left.locator(".typing")).to_be_empty()  # not echoed to the typist
    question, answer = unique("Can you read this?"), unique("Every word")
    write(left, question)
    expect(sent(right, question)).to_have_count(1)
    expect(right.locator(".typing")).to_be_empty()
    expect(message(right, question).locator(".author")).to_have_text("Alice")
    write(right, answer)
    expect(sent(left, answer)).to_have_count(1)
    for side in (left, right):
        expect(sent(side, question)).to_have_count(1)
        expect(sent(side, answer)).to_have_count(1)
    # Someone who comes and goes: the other sees both, the latter after the grace of 15 s.
    visitor = open_page("?user=daniel")
    expect(left.locator(".person-status[data-user=daniel]")).to_contain_text("online")
    visitor.context.close()
    expect(left.locator(".person-status[data-user=daniel]")).to_contain_text("offline", timeout=30_000)


def test_two_tabs_and_two_lines(open_page: Open, demo: Demo) -> None:
    alice, daniel = pane(open_page("?user=alice"), "user"), pane(open_page("?user=daniel"), "user")
    first = unique("first")
    field = alice.get_by_role("textbox")
    field.press_sequentially(first)
    field.press("Shift+Enter")
    field.press_sequentially("second")
    field.press("Enter")
    arrived = daniel.locator(".text", has_text=first)
    expect(arrived).to_have_count(1)
    assert arrived.text_content() == f"{first}\nsecond"
    assert demo.texts(demo.account["conversationId"])[-1] == f"{first}\nsecond"


def test_a_reload_keeps_the_history_and_the_chosen_user(open_page: Open) -> None:
    page = open_page()
    pane(page, "left").get_by_label("Acting as").select_option("daniel")
    left = pane(page, "left")
    expect(left.locator(".connection")).to_have_text("Connected")
    text = unique("Still here")
    write(left, text)
    expect(sent(pane(page, "right"), text)).to_have_count(1)
    page.reload()
    expect(left.get_by_label("Acting as")).to_have_value("daniel")
    for side in (left, pane(page, "right")):
        expect(sent(side, text)).to_have_count(1)
    expect(message(left, text)).to_have_class(re.compile("is-mine"))


def test_another_conversation_starts_here_and_counts_what_is_unread_there(open_page: Open) -> None:
    page = open_page("?left=alice&right=daniel")
    left, right = pane(page, "left"), pane(page, "right")
    left.get_by_label("New conversation").first.click()
    left.get_by_label("Daniel").check()
    left.get_by_role("button", name="Create").click()
    expect(left.locator(".chat-title")).to_have_text("Daniel")
    texts = [unique("one"), unique("two")]
    for text in texts:
        write(left, text)
        expect(sent(left, text)).to_have_count(1)
    row = listed(right, "Alice")
    expect(row.locator(".unread")).to_have_text("2")
    expect(row.locator(".last")).to_have_text(texts[1])
    open_conversation(right, "Alice")
    expect(row.locator(".unread")).to_be_hidden()
    for text in texts:
        expect(sent(right, text)).to_have_count(1)
        expect(message(left, text).locator(".state")).to_have_text("✓✓")
        expect(message(left, text).locator(".state")).to_have_attribute("title", "Read by Daniel")
    page.reload()
    expect(listed(right, "Alice")).to_be_visible()
    expect(listed(right, "Alice").locator(".unread")).to_be_hidden()


def test_older_pages_come_on_scrolling_in_order_and_once(open_page: Open, demo: Demo) -> None:
    title = unique("A long story")
    conversation = demo.new_conversation(title, "alice", "wang-fang")
    expected = [f"chapter {number}" for number in range(95)]
    for number, text in enumerate(expected):
        demo.send(conversation, ("alice", "wang-fang")[number // 4 % 2], text)
    alice = pane(open_page("?user=alice"), "user")
    open_conversation(alice, title)
    expect(alice.locator(".message")).to_have_count(40)
    scroll = alice.locator(".scroll")
    assert scroll.evaluate("node => node.scrollHeight - node.scrollTop - node.clientHeight") < 2
    key = alice.locator(".message").first.get_attribute("data-key")
    place = f"""node => node.querySelector(`.message[data-key="{key}"]`).getBoundingClientRect().y"""
    # In one go: older ones may come at once.
    before = scroll.evaluate(f"node => {{ node.scrollTop = 100; return ({place})(node); }}")
    expect(alice.locator(".message")).to_have_count(80)
    assert abs(scroll.evaluate(place) - before) < 3, "what is being read stays where it is"
    scroll.evaluate("node => { node.scrollTop = 0; }")
    expect(alice.locator(".message")).to_have_count(95)
    assert alice.locator(".message .text").all_text_contents() == expected
    demo.send(conversation, "wang-fang", "the end")
    alice.get_by_role("button", name="New messages").click()
    expect(message(alice, "the end")).to_be_in_viewport()


# --- when the connection breaks -------------------------------------------------------------------------------------


def test_what_is_written_while_the_server_is_away_arrives_once(
    open_page: Open, demo: Demo, complaints: Complaints
) -> None:
    page = open_page()
    left, right = pane(page, "left"), pane(page, "right")
    hasty, patient = unique("just before the end"), unique("while it was away")
    complaints.server_is_away = True
    write(left, hasty)  # may or may not have been committed
    demo.kill()
    try:
        for side in (left, right):
            expect(side).not_to_have_attribute("data-connection", "online")
        write(left, patient)
        expect(message(left, patient)).to_have_class(re.compile("is-waiting"))
    finally:
        demo.start()
    for side in (left, right):
        expect(side).to_have_attribute("data-connection", "online", timeout=RECONNECTED_WITHIN_MS)
    for text in (hasty, patient):
        for side in (left, right):
            expect(sent(side, text)).to_have_count(1)
            expect(message(side, text)).to_have_count(1)
    stored = demo.texts(demo.account["conversationId"])
    assert [text for text in stored if text in {hasty, patient}] == [hasty, patient]


def test_what_was_missed_is_shown_in_order_after_a_break(open_page: Open, demo: Demo) -> None:
    """The others go on writing while one connection is away."""
    sockets: list[WebSocketRoute] = []
    blocked = False

    def pass_on(socket: WebSocketRoute) -> None:
        if blocked:
            socket.close(code=1012)
        else:
            sockets.append(socket)
            socket.connect_to_server()

    page = open_page("?user=wang-fang", prepare=lambda page: page.route_web_socket(re.compile("/ws$"), pass_on))
    own = pane(page, "user")
    blocked = True
    sockets[-1].close(code=1012)
    expect(own).not_to_have_attribute("data-connection", "online")
    texts = [unique(f"missed {number}") for number in range(5)]
    for text in texts:
        demo.send("demo-lounge", "alice", text)
    blocked = False
    expect(own).to_have_attribute("data-connection", "online", timeout=RECONNECTED_WITHIN_MS)
    expect(sent(own, texts[-1])).to_have_count(1)
    assert own.locator(".message .text").all_text_contents()[-5:] == texts


def test_a_lost_answer_does_not_double_the_message(open_page: Open, demo: Demo) -> None:
    """The server commits, the connection breaks before anything of that arrives, the page sends again."""
    lost: list[dict[str, Any]] = []

    def lose_one_answer(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        sending: set[int] = set()

        def to_server(text: str | bytes) -> None:
            frame = json.loads(text)
            if frame["type"] == "send_message":
                sending.add(frame["id"])
            server.send(text)

        def to_page(text: str | bytes) -> None:
            frame = json.loads(text)
            if not lost and sending and frame["type"] in {"ack", "new_message"}:
                if frame.get("id") in sending:
                    lost.append(frame["data"])
                    socket.close(code=1012)
                return
            socket.send(text)

        socket.on_message(to_server)
        server.on_message(to_page)

    page = open_page("?user=alice", prepare=lambda page: page.route_web_socket(re.compile("/ws$"), lose_one_answer))
    own = pane(page, "user")
    text = unique("once and only once")
    write(own, text)
    expect(sent(own, text)).to_have_count(1, timeout=RECONNECTED_WITHIN_MS)
    expect(message(own, text)).to_have_count(1)
    assert [data["content"]["text"] for data in lost] == [text]
    assert demo.texts(demo.account["conversationId"]).count(text) == 1


def test_a_refused_message_says_why_and_can_be_sent_again(open_page: Open) -> None:
    refusing = True

    def refuse(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def to_server(text: str | bytes) -> None:
            frame = json.loads(text)
            if refusing and frame["type"] == "send_message":
                data = {"code": "message_quota_exceeded", "message": "The month is spent.", "retryable": False}
                socket.send(json.dumps({"type": "error", "id": frame["id"], "data": data}))
            else:
                server.send(text)

        socket.on_message(to_server)

    page = open_page("?user=alice", prepare=lambda page: page.route_web_socket(re.compile("/ws$"), refuse))
    own = pane(page, "user")
    text, other = unique("too much"), unique("not that important")
    for written in (text, other):
        write(own, written)
        expect(message(own, written).locator(".failure")).to_contain_text("The month is spent.")
    refusing = False
    message(own, text).get_by_role("button", name="Try again").click()
    expect(sent(own, text)).to_have_count(1)
    message(own, other).get_by_role("button", name="Discard").click()
    expect(message(own, other)).to_have_count(0)


def refusing_to_authenticate(refusals: list[tuple[str, int]]) -> Callable[[WebSocketRoute], None]:
    """Answers `authenticate` with each of these codes and close codes, then lets the connections through."""

    def handle(socket: WebSocketRoute) -> None:
        if not refusals:
            socket.connect_to_server()
            return

        def refuse(text: str | bytes) -> None:
            code, close_code = refusals.pop(0)
            data = {"code": code, "message": "No entry.", "retryable": False}
            socket.send(json.dumps({"type": "error", "id": json.loads(text)["id"], "data": data}))
            socket.close(code=close_code)

        socket.on_message(refuse)

    return handle


def test_an_expired_token_is_renewed_without_a_word(open_page: Open) -> None:
    asked: list[str] = []

    def prepare(page: Page) -> None:
        page.on("request", lambda request: asked.append(request.resource_type) if "/demo/?" in request.url else None)
        page.on("request", lambda request: asked.append("again") if request.url.endswith("/demo/") else None)
        page.route_web_socket(re.compile("/ws$"), refusing_to_authenticate([("token_expired", 4003)]))

    own = pane(open_page("?user=alice", prepare=prepare), "user")
    expect(own).to_have_attribute("data-connection", "online")
    assert asked == ["document", "again"]


def test_a_refusal_is_shown_and_can_be_tried_again(open_page: Open) -> None:
    refusals = [("tenant_inactive", 4011)]
    page = open_page(
        "?user=alice",
        connected=False,
        prepare=lambda page: page.route_web_socket(re.compile("/ws$"), refusing_to_authenticate(refusals)),
    )
    own = pane(page, "user")
    expect(own.get_by_role("alert")).to_have_text("The server refuses the connection: No entry. (tenant_inactive)")
    expect(own.locator(".connection")).to_have_text("Refused")
    own.get_by_role("button", name="Now").click()
    expect(own.locator(".connection")).to_have_text("Connected")
    expect(own.locator(".refusal")).to_be_hidden()
    expect(own.locator(".message").first).to_be_visible()


# --- what is shown --------------------------------------------------------------------------------------------------


def test_markup_is_text(open_page: Open, demo: Demo) -> None:
    markup = unique("<img src=x onerror=alert(1)><b>bold</b><script>alert(2)</script>&amp;")
    title = unique("<i>title</i>")
    demo.new_conversation(title, "alice", "wang-fang")
    page = open_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    left, right = pane(page, "left"), pane(page, "right")
    for side in (left, right):
        open_conversation(side, title)
    write(left, markup)
    for side in (left, right):
        expect(sent(side, markup)).to_have_count(1)
        assert message(side, markup).locator(".text").evaluate("node => node.childElementCount") == 0
        assert side.locator(".chat-title").evaluate("node => node.childElementCount") == 0
    assert dialogs == []


def test_chinese_page_chinese_text_and_an_input_method(open_page: Open, demo: Demo) -> None:
    page = open_page(locale="zh-CN", color_scheme="dark")
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    left, right = pane(page, "left"), pane(page, "right")
    expect(left.locator(".connection")).to_have_text("已连接")
    field = left.get_by_label("输入消息")
    text = unique("你好，王芳！𠮷野家见？👩‍👩‍👧")
    field.fill(text)
    # The Enter that chooses a word from the input method's list.
    field.evaluate(
        "node => node.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    expect(field).to_have_value(text)
    expect(right.locator(".typing")).to_have_text("Alice 正在输入…")
    field.press("Enter")
    expect(sent(right, text)).to_have_count(1)
    expect(field).to_have_value("")
    assert demo.texts(demo.account["conversationId"]).count(text) == 1
    page.get_by_role("button", name="Switch to English").click()
    expect(left.locator(".connection")).to_have_text("Connected")
    assert page.locator("html").get_attribute("lang") == "en"


def test_a_phone_has_one_pane_at_a_time_and_nothing_sticks_out(open_page: Open) -> None:
    page = open_page(**PHONE)
    left, right = pane(page, "left"), pane(page, "right")

    def fits() -> bool:
        return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))

    expect(left).to_be_visible()
    expect(right).to_be_hidden()
    long_word = unique("a" * 300 + "长" * 300)
    write(left, long_word)
    expect(sent(left, long_word)).to_have_count(1)
    assert fits()
    assert left.locator(".scroll").evaluate("node => node.scrollWidth <= node.clientWidth")
    left.get_by_label("Back to the conversations").click()
    expect(left.get_by_role("textbox")).to_be_hidden()
    expect(left.locator(".conversation").first).to_be_visible()
    assert fits()
    page.locator("#switch").get_by_role("button", name="王芳").click()
    expect(right).to_be_visible()
    expect(left).to_be_hidden()
    expect(sent(right, long_word)).to_have_count(1)
    expect(right.get_by_role("textbox")).to_be_in_viewport()
    assert fits()


def test_the_drawer_shows_what_passes_without_the_credentials(open_page: Open, demo: Demo) -> None:
    page = open_page("?user=alice")
    page.get_by_role("button", name="What's happening").click()
    row = page.locator("#frames li", has=page.get_by_text("authenticate", exact=True))
    row.locator("summary").click()
    expect(row.locator("pre")).to_contain_text('"apiKey": "mc_pk_')
    assert demo.account["publishableKey"] not in page.locator("body").inner_text()
    text = unique("seen in passing")
    write(pane(page, "user"), text)
    expect(page.locator("#frames li").filter(has_text="send_message").filter(has_text=text)).to_have_count(1)
    expect(page.locator("#frames li").filter(has_text="new_message").filter(has_text=text)).to_have_count(1)


# --- the page itself ------------------------------------------------------------------------------------------------


def test_before_the_demo_is_there_the_page_says_so(demo: Demo) -> None:
    """Needs no browser."""
    aside = demo.file.with_suffix(".aside")
    demo.file.rename(aside)
    try:
        answer = httpx.get(f"{demo.url}/demo/")
    finally:
        aside.rename(demo.file)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "3"
    assert "The demo is being prepared" in answer.text
    assert "演示正在准备中" in answer.text


def test_the_page_holds_no_secret_and_may_run_nothing_foreign(demo: Demo) -> None:
    """Needs no browser."""
    answer = httpx.get(f"{demo.url}/demo/")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws: wss:"
    assert "script-src" not in policy
    assert demo.account["publishableKey"] in answer.text
    for name in ("apiKey", "tokenSecret", "platformToken"):
        assert demo.account[name] not in answer.text
    assert demo.account["admin"]["password"] not in answer.text
    tokens = re.findall(r'"token": "([^"]+)"', answer.text)
    assert len(tokens) == 3
    own = httpx.get(
        f"{demo.url}/api/v1/users/alice/conversations",
        headers={"X-API-Key": demo.account["publishableKey"], "Authorization": f"Bearer {tokens[0]}"},
    )
    assert own.status_code == 200
    assert [row["id"] for row in own.json()["data"]].count(demo.account["conversationId"]) == 1
