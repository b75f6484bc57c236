"""Whom the client speaks for, and where: from options, the environment, or the demo tenant's file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from scripts.launcher.failures import LauncherError

TIMEOUT_S = 10.0
PAGES_OF_CONVERSATIONS = 10

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says; None where it does not."""

    url: str | None = None
    key: str | None = None
    token: str | None = None
    user: str | None = None
    conversation: str | None = None


class Unreachable(Exception):
    """No answer came; trying again later may help."""


@dataclass(frozen=True, slots=True)
class Account:
    """A key, and a token or a secret key with the user to make tokens for."""

    url: str
    key: str
    token: str | None = None
    user: str | None = None
    minting_key: str | None = None
    conversation: str | None = None
    known_users: tuple[str, ...] = ()

    @property
    def socket_url(self) -> str:
        return f"ws{self.url.removeprefix('http')}/ws"

    @property
    def is_local(self) -> bool:
        """Whether the way there leads past no proxy, whatever the environment says."""
        return urlsplit(self.url).hostname in _LOOPBACK

    @property
    def can_renew(self) -> bool:
        """Whether an expired token is replaced without asking anybody."""
        return self.token is None

    async def get_token(self) -> str:
        """The token as given, or a new one. Raises Unreachable, and LauncherError when it is refused."""
        if self.token is not None:
            return self.token
        assert self.user is not None
        assert self.minting_key is not None
        path = f"/users/{quote(self.user, safe='')}/tokens"
        made = await self._call("POST", path, headers={"X-API-Key": self.minting_key})
        return str(made["data"]["token"])

    async def conversations(self, token: str) -> list[dict[str, Any]]:
        """The user's conversations, the last active first, up to a thousand. Raises as `get_token` does."""
        headers = {"X-API-Key": self.key, "Authorization": f"Bearer {token}"}
        found: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(PAGES_OF_CONVERSATIONS):
            page = await self._call("GET", f"/conversations?limit=100{cursor}", headers=headers)
            found += page["data"]
            if page["pagination"]["nextCursor"] is None:
                break
            cursor = f"&cursor={quote(page['pagination']['nextCursor'], safe='')}"
        return found

    async def _call(self, method: str, path: str, *, headers: Mapping[str, str]) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(trust_env=not self.is_local, timeout=TIMEOUT_S) as client:
                answer = await client.request(method, f"{self.url}/api/v1{path}", headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(str(error) or type(error).__name__) from error
        except UnicodeEncodeError:
            raise LauncherError("The key or the token holds characters that none of ours has.") from None
        try:
            body = answer.json()
            if answer.is_success and body["success"]:
                return dict(body)
            code, message = str(body["error"]["code"]), str(body["error"]["message"])
        except (ValueError, KeyError, TypeError):
            raise LauncherError(
                f"{self.url} answers {answer.status_code}, but not as MessageCore does.",
                hint="Is it the right address?",
            ) from None
        if answer.status_code >= 500:
            raise Unreachable(f"{code}: {message}")
        raise refused(code, message, self)


def refused(code: str, message: str, account: Account) -> LauncherError:
    """What the server's refusal means for whoever started the client."""
    return LauncherError(f"The server refused: {message.rstrip('.')} ({code}).", hint=_hint(code, account))


_LOOK_AT_THE_KEY = "Look at --key or MESSAGECORE_API_KEY: is it whole, not revoked, and of this server?"
_LOOK_AT_THE_TOKEN = "Look at --token or MESSAGECORE_TOKEN: is it whole, not revoked, and of the key's tenant?"  # noqa: S105 - words
_HINTS = {
    "api_key_required": _LOOK_AT_THE_KEY,
    "invalid_api_key": _LOOK_AT_THE_KEY,
    "token_required": _LOOK_AT_THE_TOKEN,
    "invalid_token": _LOOK_AT_THE_TOKEN,
    "token_expired": "Start again with a new --token; with a secret key (mc_sk_…) and --user one is made each time.",
    "user_not_found": "Make the user first (POST /api/v1/users), or name another by --user.",
    "scope_missing": "The key may not make tokens: give a --token, or a key with a wider scope.",
    "tenant_inactive": "Staff can reactivate the tenant in the admin.",
}


def _hint(code: str, account: Account) -> str:
    known = (
        f" The demo has {', '.join(account.known_users)}." if code == "user_not_found" and account.known_users else ""
    )
    return _HINTS.get(code, "") + known


def account_from(wishes: Wishes, *, env: Mapping[str, str], home: Path) -> Account:
    """Options win over the environment, and that over the demo. Raises LauncherError for what does not fit together."""
    if wishes.token and wishes.user:
        raise LauncherError("--token says who the user is already; leave --user out.")
    url = wishes.url or env.get("MESSAGECORE_URL") or None
    key = wishes.key or env.get("MESSAGECORE_API_KEY") or None
    # A user that is named by hand is wanted more than a token that lies about.
    token = wishes.token or (None if wishes.user else env.get("MESSAGECORE_TOKEN")) or None
    base = None if url is None else _base(url)
    demo = _demo(home)
    if demo is not None and base not in {None, demo["baseUrl"]}:
        demo = None  # the demo's secrets are not for other servers
    if base is None and demo is None:
        raise LauncherError(
            f"Nothing has been started here: there is no {home / 'demo.json'}.",
            hint="Run scripts/up in another terminal, or say --url, --key, and --user or --token.",
        )
    where = base or str(demo and demo["baseUrl"])
    if key is None:
        if demo is None:
            raise LauncherError(f"A key for {where} is needed.", hint="Give --key or set MESSAGECORE_API_KEY.")
        return _of_the_demo(demo, wishes, token)
    if token is not None:
        return Account(url=where, key=key, token=token, conversation=wishes.conversation)
    if not key.startswith("mc_sk_"):
        raise LauncherError(
            "With this key a user token is needed as well.",
            hint="Give --token or MESSAGECORE_TOKEN; or a secret key (mc_sk_…) and --user, and a token is made.",
        )
    if wishes.user is None:
        raise LauncherError(
            "A secret key may speak for every user: say which.", hint="Give --user with an id of either kind."
        )
    return Account(url=where, key=key, user=wishes.user, minting_key=key, conversation=wishes.conversation)


def _of_the_demo(demo: Mapping[str, Any], wishes: Wishes, token: str | None) -> Account:
    users = tuple(user["externalUserId"] for user in demo["users"])
    return Account(
        url=demo["baseUrl"],
        key=demo["publishableKey"],
        token=token,
        user=None if token else wishes.user or users[0],
        minting_key=demo["apiKey"],
        conversation=wishes.conversation or (None if token else demo["conversationId"]),
        known_users=users,
    )


def _base(url: str) -> str:
    """The address below which everything is, from whichever of ours somebody has at hand."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    try:
        valid = scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise LauncherError(f"{url!r} is no address.", hint="It looks like http://127.0.0.1:8000.")
    path = parts.path.rstrip("/").removesuffix("/ws" if parts.scheme != scheme else "/api/v1")
    return f"{scheme}://{parts.netloc}{path}"


def _demo(home: Path) -> dict[str, Any] | None:
    """The demo tenant's file; None where it is not, or not whole."""
    try:
        written: dict[str, Any] = json.loads((home / "demo.json").read_text(encoding="utf-8"))
        needed = [written[name] for name in ("baseUrl", "apiKey", "publishableKey", "conversationId")]
        whole = all(
            isinstance(value, str) for value in (*needed, *(user["externalUserId"] for user in written["users"]))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return written if whole and written["users"] else None
