"""User tokens: which are believed. Each refused one is refused the same way, whatever is wrong with it."""

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.utils import timezone

from messaging.models import User
from tenants import secrets
from tenants.models import Tenant, TokenSecret
from tenants.scope import tenant_scope
from tenants.services.authentication import forget_cached_credentials
from tests.accounts import Account, draft
from tests.api import Answer, Api

HOUR = timedelta(hours=1)
GOOD: dict[str, Any] = {"sub": "ada", "exp": HOUR}
"""Claims. A timedelta stands for that time from now."""


@pytest.fixture(autouse=True)
def _ada(tenant: Account) -> None:
    tenant.user("ada")


def ask(tenant: Account, token: str) -> Answer:
    """Asks something as the token's user."""
    return Api({"X-API-Key": tenant.publishable_key, "Authorization": f"Bearer {token}"}).get("/conversations")


def timed(claims: dict[str, Any]) -> dict[str, Any]:
    now = time.time()
    return {
        name: now + value.total_seconds() if isinstance(value, timedelta) else value for name, value in claims.items()
    }


def sign(tenant: Account, claims: dict[str, Any], *, secret: str | None = None, **options: Any) -> str:
    """Signed as it is, whatever a library would say of the claims."""
    return jwt.api_jws.encode(json.dumps(timed(claims)).encode(), secret or tenant.token_secret, **options)


def forged(header: Any, payload: Any, signature: bytes = b"") -> str:
    """A token that no library would write."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature))


# --- believed -------------------------------------------------------------------------------------------------------


def test_a_minted_token_is_good(tenant: Account) -> None:
    answer = tenant.api.post("/users/ada/tokens", {"expiresInSeconds": 60})
    assert answer.status == 201
    assert ask(tenant, answer.data["token"]).status == 200
    header = jwt.get_unverified_header(answer.data["token"])
    claims = jwt.decode(answer.data["token"], options={"verify_signature": False})
    assert (header["alg"], claims["iss"], claims["sub"]) == ("HS256", str(tenant.id), "ada")
    assert claims["exp"] - claims["iat"] == 60
    assert TokenSecret.objects.filter(pk=header["kid"], tenant_id=tenant.id).exists()
    assert answer.data["expiresAt"] == datetime.fromtimestamp(claims["exp"], UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    other = tenant.api.post("/users/ada/tokens").data["token"]
    assert jwt.decode(other, options={"verify_signature": False})["jti"] != claims["jti"]


def test_a_token_lasts_a_day_unless_it_is_said(tenant: Account) -> None:
    for answer in (tenant.api.post("/users/ada/tokens"), tenant.api.post("/users/ada/tokens", {})):
        claims = jwt.decode(answer.data["token"], options={"verify_signature": False})
        assert claims["exp"] - claims["iat"] == 86_400


def test_an_integrators_own_token_may_leave_out_kid_iss_iat_and_jti(tenant: Account) -> None:
    assert ask(tenant, sign(tenant, GOOD)).status == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"iat": timedelta()},
        {"iat": timedelta(seconds=5)},
        {"aud": "somebody"},
        {"nbf": timedelta()},
        {"name": "Ada", "roles": ["x"]},
        {"exp": timedelta(seconds=60.5)},
        {"exp": timedelta(seconds=-5)},
    ],
    ids=["iat", "a clock 5 s ahead", "aud", "nbf", "more", "fraction", "a clock 5 s behind"],
)
def test_what_an_integrator_may_add(tenant: Account, claims: dict[str, Any]) -> None:
    assert ask(tenant, sign(tenant, GOOD | claims)).status == 200


def test_two_secrets_overlap_until_one_retires(tenant: Account) -> None:
    old, new = tenant.token_secret, secrets.new_credential(secrets.TOKEN_SECRET)
    TokenSecret.objects.create(tenant=tenant.tenant, ciphertext=secrets.encrypt(new))
    first = TokenSecret.objects.filter(tenant=tenant.tenant).order_by("created_at").first()
    assert first is not None
    TokenSecret.objects.filter(pk=first.pk).update(retires_at=timezone.now() + timedelta(hours=1))
    forget_cached_credentials()
    assert ask(tenant, sign(tenant, GOOD, secret=old)).status == 200
    assert ask(tenant, sign(tenant, GOOD, secret=new)).status == 200
    minted = tenant.api.post("/users/ada/tokens").data["token"]
    assert jwt.get_unverified_header(minted)["kid"] != str(first.pk), "the one that stays signs"
    TokenSecret.objects.filter(pk=first.pk).update(retires_at=timezone.now() - timedelta(seconds=1))
    forget_cached_credentials()
    ask(tenant, sign(tenant, GOOD, secret=old)).refuses(401, "invalid_token")
    assert ask(tenant, sign(tenant, GOOD, secret=new)).status == 200


# --- refused --------------------------------------------------------------------------------------------------------


def test_an_expired_token_says_so(tenant: Account) -> None:
    ask(tenant, sign(tenant, GOOD | {"exp": timedelta(seconds=-30)})).refuses(401, "token_expired")
    ask(tenant, sign(tenant, GOOD | {"exp": 0})).refuses(401, "token_expired")


def test_an_expired_token_with_a_wrong_signature_is_just_wrong(tenant: Account) -> None:
    ask(tenant, sign(tenant, GOOD | {"exp": -HOUR}, secret="x" * 44)).refuses(401, "invalid_token")


WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "another tenant's iss": {"iss": "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"},
    "iss a list": {"iss": ["x"]},
    "iss a number": {"iss": 5},
    "iss empty": {"iss": ""},
    "sub of nobody": {"sub": "nobody"},
    "sub empty": {"sub": ""},
    "sub too long": {"sub": "x" * 256},
    "sub a number": {"sub": 5},
    "sub null": {"sub": None},
    "sub an object": {"sub": {}},
    "sub with NUL": {"sub": "a\0b"},
    "sub with a control character": {"sub": "ada\n"},
    "sub with a surrogate": {"sub": "\ud800"},
    "exp a word": {"exp": "tomorrow"},
    "exp null": {"exp": None},
    "exp a list": {"exp": [1]},
    "exp huge": {"exp": 10**30},
    "exp beyond the calendar": {"exp": 10**12},
    "iat a word": {"iat": "yesterday"},
    "iat tomorrow": {"iat": timedelta(days=1)},
    "iat before time": {"iat": -(10**15)},
    "iat null": {"iat": None},
    "iat a list": {"iat": []},
    "nbf tomorrow": {"nbf": timedelta(days=1)},
    "nbf a list": {"nbf": []},
    "jti a number": {"jti": 5},
}


@pytest.mark.parametrize("claims", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS.keys())
def test_wrong_claims_are_refused(tenant: Account, claims: dict[str, Any]) -> None:
    ask(tenant, sign(tenant, GOOD | claims)).refuses(401, "invalid_token")


@pytest.mark.parametrize("missing", ["sub", "exp"])
def test_a_token_needs_sub_and_exp(tenant: Account, missing: str) -> None:
    claims = {name: value for name, value in GOOD.items() if name != missing}
    ask(tenant, sign(tenant, claims)).refuses(401, "invalid_token")


def test_infinite_times_are_refused(tenant: Account) -> None:
    for exp in (b"Infinity", b"-Infinity", b"NaN", b"1e999"):
        token = jwt.api_jws.encode(b'{"sub": "ada", "exp": ' + exp + b"}", tenant.token_secret)
        assert ask(tenant, token).status == 401


# The library says that the secret is short for these; the tenant's own secret is what makes it a test.
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_hash_is_refused(tenant: Account, algorithm: str) -> None:
    ask(tenant, sign(tenant, GOOD, algorithm=algorithm)).refuses(401, "invalid_token")


def test_a_signature_of_another_kind_is_refused(tenant: Account) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    ask(tenant, sign(tenant, GOOD, secret=pem, algorithm="RS256")).refuses(401, "invalid_token")


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, "hs256", ["HS256"], 5])
def test_alg_none_in_any_dress_is_refused(tenant: Account, alg: Any) -> None:
    payload = timed(GOOD)
    for signature in (b"", b"x"):
        ask(tenant, forged({"alg": alg, "typ": "JWT"}, payload, signature)).refuses(401, "invalid_token")
    ask(tenant, forged({"alg": alg}, payload).rstrip(".")).refuses(401, "invalid_token")


@pytest.mark.parametrize("kid", ["unknown", "", "../../etc/passwd", "' OR 1=1 --", "a\0b"])
def test_a_kid_that_names_no_secret_is_refused(tenant: Account, kid: str) -> None:
    ask(tenant, sign(tenant, GOOD, headers={"kid": kid})).refuses(401, "invalid_token")


@pytest.mark.parametrize("kid", [5, None, ["x"], {"a": 1}, True])
def test_a_kid_that_is_no_text_is_refused(tenant: Account, kid: Any) -> None:
    payload = timed(GOOD)
    ask(tenant, forged({"alg": "HS256", "kid": kid}, payload, b"x" * 32)).refuses(401, "invalid_token")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        ".",
        "..",
        "...",
        "a.b.c",
        "é.é.é",
        "e30.e30.",
        "\0",
        forged({"alg": "HS256"}, b"not json", b"x"),
        forged(b"not json", {}, b"x"),
        forged([], {}, b"x"),
        forged("text", {}, b"x"),
        forged({"alg": "HS256", "crit": ["b64"], "b64": False}, {}, b"x"),
        forged(b"[" * 40_000, {}, b"x"),
        forged(b'{"alg":' * 40_000, {}, b"x"),
        "x" * 100_000,
    ],
    ids=range(16),
)
def test_what_is_no_token_is_refused(tenant: Account, token: str) -> None:
    ask(tenant, token).refuses(401, "invalid_token")


def test_a_deep_payload_with_a_good_signature_is_refused(tenant: Account) -> None:
    token = jwt.api_jws.encode(b"[" * 100_000, tenant.token_secret)
    ask(tenant, token).refuses(401, "invalid_token")


def test_another_tenants_token_is_refused(tenant: Account, other_tenant: Account) -> None:
    other_tenant.user("ada")
    ask(tenant, other_tenant.token("ada")).refuses(401, "invalid_token")
    ask(tenant, other_tenant.token("ada", iss=None)).refuses(401, "invalid_token")
    ask(tenant, other_tenant.token("ada", iss=str(tenant.id))).refuses(401, "invalid_token")
    minted = other_tenant.api.post("/users/ada/tokens").data["token"]
    ask(tenant, minted).refuses(401, "invalid_token")
    api = Api({"X-API-Key": tenant.secret_key, "Authorization": f"Bearer {minted}"})
    api.get("/conversations").refuses(401, "invalid_token")


def test_a_token_speaks_for_its_user_beside_a_secret_key_too(tenant: Account) -> None:
    api = Api({"X-API-Key": tenant.secret_key, "Authorization": f"Bearer {tenant.token('ada')}"})
    room = api.post("/conversations", {"type": "group"}).data
    assert room["membership"]["role"] == "owner"
    assert api.post("/messages/send", draft(room, None)).data["sender"]["externalUserId"] == "ada"
    Api({"X-API-Key": tenant.secret_key, "Authorization": "Bearer x"}).get("/users").refuses(401, "invalid_token")


# --- revoked --------------------------------------------------------------------------------------------------------


def test_a_user_can_be_told_to_come_again(tenant: Account) -> None:
    now = datetime.now(UTC)
    before, after = now - timedelta(minutes=2), now - timedelta(minutes=1)
    with tenant_scope(tenant):
        User.objects.filter(external_user_id="ada").update(tokens_valid_after=now - timedelta(seconds=90))
    tenant.user("bob")
    ask(tenant, tenant.token("ada", iat=before)).refuses(401, "invalid_token")
    ask(tenant, sign(tenant, GOOD)).refuses(401, "invalid_token")
    assert ask(tenant, tenant.token("ada", iat=after)).status == 200
    assert ask(tenant, tenant.token("bob", iat=before)).status == 200, "it is each user's own"


def test_a_tenant_can_end_all_its_tokens_within_5_seconds(
    tenant: Account, seconds_pass: Callable[[float], None]
) -> None:
    now = datetime.now(UTC)
    before, after = now - timedelta(minutes=2), now - timedelta(minutes=1)
    tenant.user("bob")
    assert ask(tenant, tenant.token("bob", iat=before)).status == 200
    Tenant.objects.filter(pk=tenant.id).update(tokens_valid_after=now - timedelta(seconds=90))
    seconds_pass(5)
    for subject in ("ada", "bob"):
        ask(tenant, tenant.token(subject, iat=before)).refuses(401, "invalid_token")
        ask(tenant, sign(tenant, GOOD | {"sub": subject})).refuses(401, "invalid_token")
        assert ask(tenant, tenant.token(subject, iat=after)).status == 200


def test_a_token_for_a_deactivated_user_is_not_minted(tenant: Account) -> None:
    with tenant_scope(tenant):
        User.objects.filter(external_user_id="ada").update(is_active=False)
    tenant.api.post("/users/ada/tokens").refuses(409, "conflict")


def test_secrets_are_stored_encrypted(tenant: Account) -> None:
    (row,) = TokenSecret.objects.filter(tenant=tenant.tenant)
    assert tenant.token_secret.encode() not in bytes(row.ciphertext)
    assert secrets.decrypt(row.ciphertext) == tenant.token_secret
