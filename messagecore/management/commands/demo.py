"""`manage.py demo`: a tenant to play with, and all that a person or a script needs for it, in one file."""

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction
from django.utils import timezone

from messagecore.kernel.errors import Refusal
from messagecore.settings.env import env
from messaging.models import Conversation, ConversationType, Role, User
from messaging.services.conversations import NewConversation, create_conversation
from messaging.services.participants import add_participants
from messaging.services.sending import Draft, send_message
from messaging.services.users import upsert_users
from quotas.services.accounts import open_account
from tenants.models import ApiKey, KeyKind, PlatformToken, Tenant, TokenSecret
from tenants.scope import tenant_scope
from tenants.secrets import decrypt
from tenants.services import authentication, keys

MODES = ("demo", "development")
LOCK = 0x4D43_0002  # one demo at a time in a database

SUBDOMAIN = "demo"
ADMIN = "admin"
LOUNGE = "demo-lounge"
USERS = {"alice": "Alice", "wang-fang": "王芳", "daniel": "Daniel"}
WELCOME = (
    ("alice", "Welcome to the demo! Everything you see here runs on the public API, nothing else."),
    ("wang-fang", "大家好！中文也没问题，消息会立刻送到每个人那里。"),
    ("daniel", "Open this page in a second tab and write to yourself: it arrives in real time. 🎉"),
    ("alice", "Stop the server while you type, if you like. 重新连接之后，消息一条不少，也不会重复。"),
)

USER_TOKENS_LIVE = timedelta(days=1)
PLATFORM_TOKEN_LIVES = timedelta(days=90)


class Command(BaseCommand):
    help = (
        "Make the demo tenant with its users, a conversation, an admin and a platform token, and write their "
        "credentials to a file that only you can read. Safe to run again: what works is kept, user tokens are renewed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--output", type=Path, default=settings.HOME / "demo.json", help="default %(default)s")
        parser.add_argument("--base-url", default=_own_address(), help="where the web server is reached (%(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.MESSAGECORE_MODE not in MODES:
            raise CommandError(
                f"The demo's credentials lie in a file, so it is only for {' and '.join(MODES)} mode; "
                f"MESSAGECORE_MODE is {settings.MESSAGECORE_MODE}."
            )
        output: Path = options["output"].absolute()
        base_url: str = options["base_url"].rstrip("/")
        if urlsplit(base_url).scheme not in {"http", "https"} or not urlsplit(base_url).netloc:
            raise CommandError(f"--base-url must be an http or https address, not {base_url!r}.")
        # What another process has revoked a moment ago shall not be taken for good.
        authentication.forget_cached_credentials()
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
                account = _Account(earlier=_read(output), holder=f"demo: {output}"[-100:], now=timezone.now())
                written = account.prepare(base_url)
        except Refusal as refusal:
            raise CommandError(f"{refusal.message} ({refusal.code})") from None
        try:
            _write_privately(output, json.dumps(written, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror}.") from None
        self.stdout.write(f"The demo's addresses and credentials are in {output}")


class _Account:
    """The demo tenant in the database, and what of an earlier file still opens it.

    Keys are stored as hashes, so the file is the only place that knows them: `earlier` is what it said, {} when there
    is none. New ones are named `holder`, and replace those of the same name.
    """

    def __init__(self, *, earlier: Mapping[str, Any], holder: str, now: datetime) -> None:
        self.earlier, self.holder, self.now = earlier, holder, now

    def prepare(self, base_url: str) -> dict[str, Any]:
        """The file's content, after everything that it names was made. Raises what the services raise."""
        tenant, fresh = self._tenant()
        parts = urlsplit(base_url)
        with tenant_scope(tenant):
            users = self._users(tenant)
            conversation = self._conversation(tenant, users)
        return {
            "baseUrl": base_url,
            "wsUrl": f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{parts.path}/ws",
            "tenant": {"id": str(tenant.id), "name": tenant.name, "subdomain": tenant.subdomain},
            "apiKey": fresh.get("apiKey") or self._api_key(tenant, "apiKey", KeyKind.SECRET),
            "publishableKey": fresh.get("publishableKey")
            or self._api_key(tenant, "publishableKey", KeyKind.PUBLISHABLE),
            "tokenSecret": self._token_secret(tenant),
            "platformToken": self._platform_token(),
            "conversationId": str(conversation.id),
            "users": [
                {
                    "id": str(user.id),
                    "externalUserId": user.external_user_id,
                    "displayName": user.display_name or user.external_user_id,
                    "token": authentication.mint_user_token(
                        authentication.tenant_card(tenant),
                        user.external_user_id,
                        lifetime=USER_TOKENS_LIVE,
                        now=self.now,
                    )[0],
                }
                for user in users
            ],
            "admin": {"url": f"{base_url}/admin/", "username": ADMIN, "password": self._admin_password()},
        }

    def _tenant(self) -> tuple[Tenant, dict[str, str]]:
        """The tenant, and its first keys if it was made just now."""
        tenant = Tenant.objects.filter(subdomain=SUBDOMAIN).first()
        if tenant is not None:
            return tenant, {}
        made = open_account(name="Demo Shop", subdomain=SUBDOMAIN, plan_type="pro")
        ApiKey.objects.filter(pk__in=[made.secret_key.id, made.publishable_key.id]).update(name=self.holder)
        return made.tenant, {"apiKey": made.secret_key.value, "publishableKey": made.publishable_key.value}

    def _users(self, tenant: Tenant) -> list[User]:
        """The demo's users. Those that are there stay as people have changed them."""
        there = {user.external_user_id: user for user in User.objects.filter(external_user_id__in=USERS)}
        missing = [
            {"externalUserId": external_id, "displayName": name}
            for external_id, name in USERS.items()
            if external_id not in there
        ]
        if missing:
            made = upsert_users(tenant_id=tenant.id, bodies=missing, now=self.now)
            there |= {result.user.external_user_id: result.user for result in made}
        return [there[external_id] for external_id in USERS]

    def _conversation(self, tenant: Tenant, users: list[User]) -> Conversation:
        """The conversation that all of them are in; with a few words in it if it was made just now."""
        ids = [str(user.id) for user in users]
        conversation = Conversation.objects.filter(external_id=LOUNGE).first()
        if conversation is not None:
            return add_participants(
                tenant_id=tenant.id,
                conversation=conversation,
                participants=ids,
                role=Role.MEMBER,
                show_history=True,
                actor=None,
            )
        made = create_conversation(
            tenant_id=tenant.id,
            wanted=NewConversation(
                type=ConversationType.GROUP,
                title="Demo lounge · 演示大厅",
                participants=ids,
                external_id=LOUNGE,
                metadata={},
            ),
            actor=users[0],
            now=self.now,
        )
        for number, (sender, text) in enumerate(WELCOME, 1):
            draft = Draft(
                conversation=LOUNGE,
                sender=sender,
                type="text",
                content={"text": text},
                client_message_id=f"demo-welcome-{number}",
            )
            send_message(tenant_id=tenant.id, draft=draft, via="command")
        return made.conversation

    def _api_key(self, tenant: Tenant, field: str, kind: KeyKind) -> str:
        """The file's key if it still opens this tenant, a new one otherwise."""
        value = self.earlier.get(field)
        if isinstance(value, str):
            try:
                card = authentication.authenticate_key(value, now=self.now, host="", address=None, origin=None)
                if card.tenant.id == tenant.id and card.kind == kind:
                    return value
            except authentication.TenantInactive:
                return value  # a demo tenant that staff have suspended; the key is as good as before
            except Refusal:
                pass
        for key in ApiKey.objects.filter(tenant=tenant, kind=kind, name=self.holder, revoked_at=None):
            keys.revoke_api_key(key=key, now=self.now)
        return keys.create_api_key(tenant=tenant, kind=kind, name=self.holder).value

    def _token_secret(self, tenant: Tenant) -> str:
        """The secret that signs user tokens. One sealed under another MESSAGECORE_SECRET_KEY is of no use and goes."""
        for secret in TokenSecret.objects.filter(tenant=tenant, retires_at=None):
            try:
                return decrypt(bytes(secret.ciphertext))
            except ValueError:
                secret.delete()
        authentication.forget_cached_credentials()
        return keys.create_token_secret(tenant=tenant).value

    def _platform_token(self) -> str:
        """The file's token if it is good for another day, a new one otherwise."""
        value = self.earlier.get("platformToken")
        if isinstance(value, str):
            with contextlib.suppress(Refusal):
                authentication.authenticate_platform_token(value, now=self.now + timedelta(days=1))
                return value
        for token in PlatformToken.objects.filter(name=self.holder, revoked_at=None):
            keys.revoke_platform_token(token=token, now=self.now)
        return keys.create_platform_token(name=self.holder, expires_at=self.now + PLATFORM_TOKEN_LIVES).value

    def _admin_password(self) -> str:
        """The admin's password: the file's if it still opens the admin, a new one otherwise."""
        admin = get_user_model().objects.filter(username=ADMIN).first()
        earlier = self.earlier.get("admin")
        password = earlier.get("password") if isinstance(earlier, dict) else None
        if admin is not None and isinstance(password, str) and admin.is_active and admin.check_password(password):
            return password
        password = secrets.token_urlsafe(15)
        if admin is None:
            get_user_model().objects.create_superuser(username=ADMIN, password=password)
            return password
        admin.is_active = admin.is_staff = admin.is_superuser = True
        admin.set_password(password)
        admin.save(update_fields=["password", "is_active", "is_staff", "is_superuser"])
        return password


def _own_address() -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(env.host, env.host)  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{env.port}"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def _write_privately(path: Path, text: str) -> None:
    """Replaces the file in one step. It is never there half written, nor readable by others for a moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
