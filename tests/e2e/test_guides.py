"""The READMEs' tour and the guides, run as a reader would run them, against a server with the demo tenant."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.databases import create_database, drop_database, require_servers
from tests.settings import WORKER

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(<!-- not run: [^>]+-->\n)?```(\w+)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader is: a directory with `.messagecore/demo.json` in it, and what they know of the server."""

    path: Path
    demo: dict[str, object]
    env: dict[str, str]

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, check=False, cwd=self.path, env=self.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert done.stderr == ""
        return done.stdout

    def get(self, route: str) -> httpx.Response:
        return httpx.get(
            f"{self.env['MESSAGECORE_URL']}/api/v1{route}", headers={"X-API-Key": self.env["MESSAGECORE_KEY"]}
        )


def blocks(document: str, language: str) -> list[str]:
    """The blocks of a language that are to be run, in order."""
    text = (ROOT / document).read_text("utf-8")
    return [code for skipped, found, code in BLOCK.findall(text) if found == language and not skipped]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    require_servers()
    directory = tmp_path_factory.mktemp("reader")
    home = directory / ".messagecore"
    home.mkdir(mode=0o700)
    (home / "venv").symlink_to(sys.prefix)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name = f"messagecore_guides{WORKER}"
    env = dict(os.environ) | {
        "DATABASE_URL": create_database(name),
        "MESSAGECORE_MODE": "demo",
        "MESSAGECORE_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "messagecore.settings",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "demo"], cwd=ROOT, env=env, check=True, capture_output=True)
    demo = json.loads((home / "demo.json").read_text("utf-8"))
    with (home / "web.log").open("wb") as log:
        web = subprocess.Popen([sys.executable, "-m", "messagecore.server"], cwd=ROOT, env=env, stderr=log)
    try:
        _wait_for(demo["baseUrl"] + "/ready", web, home / "web.log")
        yield Place(
            directory,
            demo,
            {
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "MESSAGECORE_URL": demo["baseUrl"],
                "MESSAGECORE_KEY": demo["apiKey"],
                "MESSAGECORE_TOKEN_SECRET": demo["tokenSecret"],
            },
        )
    finally:
        web.terminate()
        web.wait(timeout=15)
        drop_database(name)


def _wait_for(url: str, web: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and web.poll() is None:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the server did not get ready:\n" + log.read_text("utf-8"))


@pytest.fixture(scope="module")
def quickstart(place: Place) -> list[dict[str, object]]:
    """The answers of the quickstart; what it made is there for the guides that build on it."""
    script = "\n".join(blocks("docs/guides/quickstart.md", "sh")).replace("\n\ncurl", "\necho\ncurl")
    return [json.loads(line) for line in place.run("sh", "-ec", script).splitlines()]


def test_the_tour_of_the_readme(place: Place) -> None:
    up, test, curl, websocket, _ = blocks("README.md", "sh")
    assert (up, test) == ("./scripts/up\n", "./scripts/test\n")
    user, token, conversation, message, history = map(json.loads, place.run("sh", "-ec", curl).splitlines())
    assert [answer["success"] for answer in (user, token, conversation, message, history)] == [True] * 5
    assert conversation["data"]["externalId"] == "order-1029"
    assert history["data"]["messages"] == [message["data"]]

    opened, *frames = map(json.loads, place.run("sh", "-ec", websocket).splitlines())
    assert opened["type"] == "authenticated"
    # The ack and the event are sent by two ways, either may be first.
    ack, event = sorted(frames, key=lambda frame: frame["type"])
    assert (ack["type"], event["type"]) == ("ack", "new_message")
    assert ack["data"]["id"] == event["data"]["message"]["id"]
    assert event["data"]["message"]["content"] == {"text": "On its way!"}


def test_the_quickstart(place: Place, quickstart: list[dict[str, object]]) -> None:
    user, users, conversation, message, history, token = (answer["data"] for answer in quickstart)
    assert user["externalUserId"] == "customer-8841"
    assert [one["displayName"] for one in users] == ["王芳", None]
    assert conversation["participantCount"] == 2
    assert history["messages"] == [message]
    assert set(token) == {"token", "expiresAt"}


def test_the_python_client(place: Place, quickstart: list[dict[str, object]]) -> None:
    place.run(sys.executable, "-c", "\n".join(blocks("docs/guides/rest.md", "python")))
    history = place.get("/messages/conversations/order-2025-1029").json()["data"]
    assert [message["clientMessageId"] for message in history["messages"]][:2] == [
        "shipping-2025-1029",
        "tomorrow-2025-1029",
    ]


def test_files(place: Place, quickstart: list[dict[str, object]]) -> None:
    (code,) = blocks("docs/guides/files.md", "python")
    place.run(sys.executable, "-c", code)
    history = place.get("/messages/conversations/order-2025-1029").json()["data"]
    assert [message["content"]["name"] for message in history["messages"] if message["type"] == "file"] == [
        "invoice.txt"
    ]


def test_importing(place: Place, quickstart: list[dict[str, object]]) -> None:
    (code,) = blocks("docs/guides/import.md", "python")
    assert place.run(sys.executable, "-c", code) == ""
    history = place.get("/messages/conversations/order-2019-0302").json()["data"]
    first, answer = history["messages"]
    assert (first["createdAt"], answer["replyToId"]) == ("2019-03-02T01:01:12.000Z", first["id"])


def test_the_feed(place: Place, quickstart: list[dict[str, object]]) -> None:
    """The consumer has every message once, goes on where it was, and hears of edits."""
    (first,) = map(json.loads, place.run("sh", "-ec", "\n".join(blocks("docs/guides/events.md", "sh"))).splitlines())
    assert len(first["data"]) == 2
    (code,) = blocks("docs/guides/events.md", "python")
    for _ in range(2):
        assert place.run(sys.executable, "-c", code) == "True\n"
        with closing(sqlite3.connect(place.path / "archive.db")) as archive:
            archived = dict(archive.execute("SELECT id, body FROM message").fetchall())
        history = place.get("/messages/conversations/order-2025-1029").json()["data"]["messages"]
        assert [message["id"] for message in history if message["id"] not in archived] == []
        assert [json.loads(archived[message["id"]]) for message in history] == [one["content"] for one in history]
        httpx.patch(
            f"{place.env['MESSAGECORE_URL']}/api/v1/messages/{history[0]['id']}",
            headers={"X-API-Key": place.env["MESSAGECORE_KEY"]},
            json={"content": {"text": "said otherwise"}},
        ).raise_for_status()


@pytest.mark.parametrize("language", ["python", "js", "php"])
def test_tokens_that_integrators_sign(place: Place, quickstart: list[dict[str, object]], language: str) -> None:
    (code,) = blocks("docs/guides/tokens.md", language)
    file = place.path / f"signed.{ {'python': 'py', 'js': 'mjs', 'php': 'php'}[language] }"
    file.write_text(code, "utf-8")
    program = {"python": sys.executable, "js": shutil.which("node"), "php": shutil.which("php")}[language]
    if program is None:
        pytest.skip(f"no program for {language} on this machine")
    token = place.run(program, str(file)).strip()
    headers = {"X-API-Key": place.demo["publishableKey"], "Authorization": f"Bearer {token}"}
    answer = httpx.get(f"{place.env['MESSAGECORE_URL']}/api/v1/conversations", headers=headers)
    assert [one["externalId"] for one in answer.json()["data"]] == ["order-2025-1029"]


DRIVER = """
import { Chat } from "./chat.mjs";
const { MESSAGECORE_URL: url, MESSAGECORE_KEY: key, PUBLISHABLE_KEY: apiKey, TOKEN: token } = process.env;
const room = "order-2025-1029";
const texts = [], others = [];
let wake = () => {};
let network = Promise.resolve();
const chat = new Chat({ url, apiKey, getToken: () => network.then(() => token), onEvent: (frame) => {
  (frame.type === "new_message" ? texts : others).push(frame);
  wake();
} });
const until = async (condition) => { while (!condition()) await new Promise((resolve) => { wake = resolve; }); };
const post = (route, body, method = "POST") => fetch(`${url}/api/v1${route}`, {
  method, headers: { "X-API-Key": key, "Content-Type": "application/json" }, body: body && JSON.stringify(body),
});
const say = (text) => post("/messages/send", {
  conversationId: room, senderId: "agent-1", type: "text", content: { text },
});

await until(() => others.some(({ type }) => type === "resumed"));
const acked = await chat.send(room, "one");
await until(() => texts.length === 1);

let mend;
network = new Promise((resolve) => { mend = resolve; });
chat.socket.close();
await say("two");
await post(`/conversations/${room}/participants`, { participantIds: ["agent-2"] });
for (let number = 3; number <= 150; number++) await say(String(number));
mend();
await until(() => others.filter(({ type }) => type === "resumed").length === 2);
await say("last");
await until(() => texts.at(-1).data.message.content.text === "last");
chat.close();
await until(() => others.at(-1).type === "stopped");
console.log(JSON.stringify({
  acked: acked.id === texts[0].data.message.id,
  texts: texts.map(({ data }) => data.message.content.text),
  seqs: texts.map(({ data }) => data.seq),
  others: others.map(({ type }) => type),
  announced: others.flatMap(({ type, data }) => (type === "conversation_created" ? data.conversation.externalId : [])),
  people: others.find(({ type }) => type === "participant_added").data.participantCount,
}));
process.exit(0);
"""


def test_looking_at_frames(place: Place) -> None:
    (code,) = blocks("docs/guides/realtime.md", "sh")
    env = place.env | {"MESSAGECORE_HOME": str(place.path / ".messagecore"), "MESSAGECORE_VENV": sys.prefix}
    frames = [json.loads(line) for line in Place(ROOT, place.demo, env).run("sh", "-ec", code).splitlines()]
    assert [(frame["type"], frame.get("id")) for frame in frames] == [("authenticated", None), ("ack", 1)]
    assert frames[0]["data"]["externalUserId"] == "alice"


def test_the_realtime_client_misses_nothing(place: Place, quickstart: list[dict[str, object]]) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    version = int(place.run(node, "--version").strip("v\n").split(".")[0])
    if version < 20:
        pytest.skip(f"node {version} has no WebSocket")
    (client,) = blocks("docs/guides/realtime.md", "js")
    (place.path / "chat.mjs").write_text(client, "utf-8")
    (place.path / "driver.mjs").write_text(DRIVER, "utf-8")
    token = httpx.post(
        f"{place.env['MESSAGECORE_URL']}/api/v1/users/customer-8841/tokens",
        headers={"X-API-Key": place.env["MESSAGECORE_KEY"]},
    ).json()["data"]["token"]
    env = place.env | {"TOKEN": token, "PUBLISHABLE_KEY": str(place.demo["publishableKey"])}
    flags = ["--experimental-websocket", "--no-warnings"] if version < 22 else []
    told = json.loads(Place(place.path, place.demo, env).run(node, *flags, "driver.mjs"))
    assert told["acked"]
    assert told["texts"] == ["one", "two", *map(str, range(3, 151)), "last"]
    assert told["seqs"] == sorted(set(told["seqs"]))
    assert [one for one in told["others"] if one in {"authenticated", "resumed", "stopped"}] == [
        "authenticated",
        "resumed",
        "authenticated",
        "resumed",
        "stopped",
    ]
    assert told["announced"] == ["order-2025-1029"]
    assert told["people"] == 3


FALLBACK_DRIVER = """
import { Polls, Stream } from "./fallbacks.mjs";
const { MESSAGECORE_URL: url, MESSAGECORE_KEY: key, PUBLISHABLE_KEY: apiKey, TOKEN: token, KIND } = process.env;
const room = "order-2025-1029";
const texts = [], others = [];
let wake = () => {};
let network = Promise.resolve();
const chat = new { Polls, Stream }[KIND]({ url, apiKey, getToken: () => network.then(() => token), onFrame: (frame) => {
  (frame.type === "new_message" ? texts : others).push(frame);
  wake();
} });
const until = async (condition) => { while (!condition()) await new Promise((resolve) => { wake = resolve; }); };
const say = (text) => fetch(`${url}/api/v1/messages/send`, {
  method: "POST", headers: { "X-API-Key": key, "Content-Type": "application/json" },
  body: JSON.stringify({ conversationId: room, senderId: "agent-1", type: "text", content: { text } }),
});

await until(() => others.some(({ type }) => type === "resumed"));
const acked = await chat.send(room, "one");
await until(() => texts.length === 1);
const refused = await chat.command("typing_start", { conversationId: "nowhere" }).catch(({ code }) => code);
let mend;
network = new Promise((resolve) => { mend = resolve; });
chat.cutting.abort();
for (let number = 2; number <= 60; number++) await say(String(number));
mend();
await until(() => texts.length === 60);
chat.close();
await say("nobody hears it");
console.log(JSON.stringify({
  acked: acked.id === texts[0].data.message.id,
  refused,
  texts: texts.map(({ data }) => data.message.content.text),
  seqs: texts.map(({ data }) => data.seq),
  held: Math.max(...Object.values(chat.held)),
  opened: others.filter(({ type }) => type === "authenticated").length,
}));
process.exit(0);
"""


@pytest.mark.parametrize("kind", ["Stream", "Polls"])
def test_clients_without_sockets_miss_nothing(place: Place, quickstart: list[dict[str, object]], kind: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    (client,) = blocks("docs/guides/fallbacks.md", "js")
    (place.path / "fallbacks.mjs").write_text(client, "utf-8")
    (place.path / "fallback-driver.mjs").write_text(FALLBACK_DRIVER, "utf-8")
    token = httpx.post(
        f"{place.env['MESSAGECORE_URL']}/api/v1/users/customer-8841/tokens",
        headers={"X-API-Key": place.env["MESSAGECORE_KEY"]},
    ).json()["data"]["token"]
    env = place.env | {"TOKEN": token, "PUBLISHABLE_KEY": str(place.demo["publishableKey"]), "KIND": kind}
    told = json.loads(Place(place.path, place.demo, env).run(node, "fallback-driver.mjs"))
    assert told["acked"]
    assert told["refused"] == "conversation_not_found"
    assert told["texts"] == ["one", *map(str, range(2, 61))]
    assert told["seqs"] == sorted(set(told["seqs"]))
    assert told["held"] == told["seqs"][-1]
    assert told["opened"] == (2 if kind == "Stream" else 0)
