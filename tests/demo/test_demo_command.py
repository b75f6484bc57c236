"""`manage.py demo`: what it makes, what it keeps from start to start, what it refuses."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from django.utils import timezone

from messaging.models import Conversation, Message, User
from tenants.models import ApiKey, Tenant, TenantStatus
from tenants.scope import tenant_scope
from tenants.services import authentication

pytestmark = pytest.mark.django_db

STABLE = ("apiKey", "publishableKey", "tokenSecret", "platformToken", "tenant", "conversationId", "admin")


@pytest.fixture(autouse=True)
def _demo_mode(settings: LazySettings) -> None:
    settings.MESSAGECORE_MODE = "demo"


def run(output: Path, base_url: str = "http://127.0.0.1:8000") -> dict[str, Any]:
    call_command("demo", output=output, base_url=base_url)
    written: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return written


def opens(key: str) -> bool:
    authentication.forget_cached_credentials()
    try:
        authentication.authenticate_key(key, now=timezone.now(), host="", address=None, origin=None)
    except authentication.InvalidApiKey:
        return False
    return True


def test_the_file_names_everything_and_everything_works(tmp_path: Path) -> None:
    output = tmp_path / "new" / "demo.json"
    written = run(output, "https://chat.example.com/")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert list(output.parent.iterdir()) == [output]
    assert written["baseUrl"] == "https://chat.example.com"
    assert written["wsUrl"] == "wss://chat.example.com/ws"
    tenant = Tenant.objects.get(subdomain="demo")
    assert written["tenant"] == {"id": str(tenant.id), "name": "Demo Shop", "subdomain": "demo"}
    assert opens(written["apiKey"])
    assert opens(written["publishableKey"])
    authentication.authenticate_platform_token(written["platformToken"], now=timezone.now())
    admin = written["admin"]
    assert admin["url"] == "https://chat.example.com/admin/"
    user = authenticate(username=admin["username"], password=admin["password"])
    assert user is not None
    assert user.is_superuser
    assert [(one["externalUserId"], one["displayName"]) for one in written["users"]] == [
        ("alice", "Alice"),
        ("wang-fang", "王芳"),
        ("daniel", "Daniel"),
    ]
    with tenant_scope(tenant):
        conversation = Conversation.objects.get(pk=written["conversationId"])
        members = {str(place.user_id) for place in conversation.participants.all()}
        assert members == {one["id"] for one in written["users"]}
        assert Message.objects.filter(conversation=conversation).count() == 4
    for one in written["users"]:
        claims = authentication.verify_user_token(authentication.tenant_card(tenant), one["token"], now=timezone.now())
        assert claims.external_user_id == one["externalUserId"]
        assert 86_000 < (claims.expires_at - timezone.now()).total_seconds() <= 86_400


def test_a_second_start_keeps_what_works_and_says_nothing_twice(tmp_path: Path) -> None:
    output = tmp_path / "demo.json"
    first = run(output)
    tenant = Tenant.objects.get(subdomain="demo")
    with tenant_scope(tenant):
        User.objects.filter(external_user_id="alice").update(display_name="Alice Liddell")
    second = run(output)
    assert {name: second[name] for name in STABLE} == {name: first[name] for name in STABLE}
    assert [one["id"] for one in second["users"]] == [one["id"] for one in first["users"]]
    assert second["users"][0]["displayName"] == "Alice Liddell"
    assert [one["token"] for one in second["users"]] != [one["token"] for one in first["users"]]
    assert ApiKey.objects.filter(tenant=tenant).count() == 2
    with tenant_scope(tenant):
        assert Message.objects.count() == 4


def test_without_the_file_new_keys_replace_those_that_nobody_knows_any_more(tmp_path: Path) -> None:
    output = tmp_path / "demo.json"
    first = run(output)
    output.write_text('{"apiKey": 5, "admin": []')
    second = run(output)
    assert second["tenant"] == first["tenant"]
    assert second["tokenSecret"] == first["tokenSecret"]
    for name in ("apiKey", "publishableKey"):
        assert not opens(first[name])
        assert opens(second[name])
    with pytest.raises(authentication.InvalidPlatformToken):
        authentication.authenticate_platform_token(first["platformToken"], now=timezone.now())
    assert authenticate(username="admin", password=first["admin"]["password"]) is None
    assert authenticate(username="admin", password=second["admin"]["password"]) is not None


def test_another_file_takes_nothing_from_the_first(tmp_path: Path) -> None:
    first = run(tmp_path / "one.json")
    second = run(tmp_path / "other.json")
    assert second["apiKey"] != first["apiKey"]
    assert opens(first["apiKey"])
    assert opens(second["apiKey"])


def test_a_secret_sealed_under_another_key_is_replaced(tmp_path: Path, settings: LazySettings) -> None:
    output = tmp_path / "demo.json"
    first = run(output)
    settings.SECRET_KEY = "another-" + "1" * 50
    second = run(output)
    assert second["tokenSecret"] != first["tokenSecret"]
    assert opens(second["apiKey"])
    tenant = Tenant.objects.get(subdomain="demo")
    authentication.verify_user_token(
        authentication.tenant_card(tenant), second["users"][0]["token"], now=timezone.now()
    )


def test_a_suspended_demo_stays_suspended_and_keeps_its_keys(tmp_path: Path) -> None:
    output = tmp_path / "demo.json"
    first = run(output)
    Tenant.objects.filter(subdomain="demo").update(status=TenantStatus.SUSPENDED)
    second = run(output)
    assert {name: second[name] for name in STABLE} == {name: first[name] for name in STABLE}
    assert Tenant.objects.get(subdomain="demo").status == TenantStatus.SUSPENDED


def test_whoever_left_is_brought_back(tmp_path: Path) -> None:
    output = tmp_path / "demo.json"
    first = run(output)
    tenant = Tenant.objects.get(subdomain="demo")
    with tenant_scope(tenant):
        conversation = Conversation.objects.get(pk=first["conversationId"])
        conversation.participants.filter(user__external_user_id="daniel").delete()
        Conversation.objects.filter(pk=conversation.pk).update(participant_count=2)
    run(output)
    with tenant_scope(tenant):
        conversation.refresh_from_db()
        assert conversation.participant_count == 3
        assert conversation.participants.filter(user__external_user_id="daniel").exists()


@pytest.mark.parametrize("mode", ["production", "test"])
def test_other_modes_are_refused_and_nothing_is_made(tmp_path: Path, settings: LazySettings, mode: str) -> None:
    settings.MESSAGECORE_MODE = mode
    with pytest.raises(CommandError, match=f"MESSAGECORE_MODE is {mode}"):
        run(tmp_path / "demo.json")
    assert not (tmp_path / "demo.json").exists()
    assert not Tenant.objects.filter(subdomain="demo").exists()


def test_a_base_url_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="must be an http or https address"):
        run(tmp_path / "demo.json", "chat.example.com")


def test_a_file_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "demo.json").mkdir()
    with pytest.raises(CommandError, match=r"demo\.json cannot be written"):
        run(tmp_path / "demo.json")
