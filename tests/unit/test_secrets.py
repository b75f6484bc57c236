"""Credentials: their shape, their hashes, their encryption under keys that change."""

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from tenants import secrets

KINDS = [secrets.SECRET_KEY, secrets.PUBLISHABLE_KEY, secrets.PLATFORM_TOKEN, secrets.TOKEN_SECRET]


@pytest.mark.parametrize("kind", KINDS)
def test_a_credential_has_its_kind_and_a_checksum(kind: str) -> None:
    made = {secrets.new_credential(kind) for _ in range(200)}
    assert len(made) == 200
    for credential in made:
        assert credential.startswith(kind)
        assert len(credential) == 44
        assert secrets.is_well_formed(credential, kind)
        assert not secrets.is_well_formed(credential, *(other for other in KINDS if other != kind))
        assert secrets.visible_prefix(credential) == credential[:12]


@given(st.integers(0, 43), st.sampled_from(secrets.ALPHABET))
def test_any_mistyped_character_is_noticed(place: int, letter: str) -> None:
    credential = secrets.new_credential(secrets.SECRET_KEY)
    mistyped = credential[:place] + letter + credential[place + 1 :]
    assert secrets.is_well_formed(mistyped, secrets.SECRET_KEY) is (mistyped == credential)


@given(st.text(max_size=60))
def test_noise_is_not_well_formed(text: str) -> None:
    assert not secrets.is_well_formed(text, *KINDS)
    assert not secrets.is_well_formed("mc_sk_" + text, *KINDS)


def test_a_digest_depends_on_the_key_that_makes_it() -> None:
    with override_settings(SECRET_KEY="one", SECRET_KEY_FALLBACKS=[]):
        (one,) = secrets.digests("mc_sk_x")
        assert secrets.digests("mc_sk_x") == [one]
        assert secrets.digests("mc_sk_y") != [one]
        assert len(one) == 32
    with override_settings(SECRET_KEY="two", SECRET_KEY_FALLBACKS=["one"]):
        new, old = secrets.digests("mc_sk_x")
        assert old == one
        assert new != one


def test_what_was_encrypted_is_read_after_a_rotation() -> None:
    with override_settings(SECRET_KEY="one", SECRET_KEY_FALLBACKS=[]):
        stored = secrets.encrypt("token secret")
        assert b"token secret" not in stored
        assert secrets.encrypt("token secret") != stored, "the same text twice looks different"
    with override_settings(SECRET_KEY="two", SECRET_KEY_FALLBACKS=["one"]):
        assert secrets.decrypt(stored) == "token secret"
        assert secrets.decrypt(memoryview(stored)) == "token secret"
        again = secrets.encrypt("token secret")
    with override_settings(SECRET_KEY="two", SECRET_KEY_FALLBACKS=[]):
        assert secrets.decrypt(again) == "token secret"
        with pytest.raises(ValueError, match="MESSAGECORE_SECRET_KEY"):
            secrets.decrypt(stored)


@pytest.mark.parametrize("stored", [b"", b"x", b"\0" * 100])
def test_what_was_never_encrypted_is_said_so(stored: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be opened"):
        secrets.decrypt(stored)
