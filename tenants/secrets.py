"""Making, hashing and encrypting credentials. Nothing here touches the database."""

import base64
import binascii
import hashlib
import hmac
import secrets
import zlib
from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_CHARACTERS = 32  # 190 bits
CHECKSUM_CHARACTERS = 6
VISIBLE_CHARACTERS = 12  # "mc_sk_" and six more

SECRET_KEY, PUBLISHABLE_KEY, PLATFORM_TOKEN, TOKEN_SECRET = "mc_sk_", "mc_pk_", "mc_pt_", "mc_ts_"


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(CHECKSUM_CHARACTERS):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits


def new_credential(kind: str) -> str:
    """`kind`, 32 random characters, and a checksum, so that a mistyped or invented key costs no look-up and
    scanners can tell ours from noise."""
    body = kind + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return body + _checksum(body)


def is_well_formed(credential: str, *kinds: str) -> bool:
    return (
        credential.startswith(kinds)
        and len(credential) == len(SECRET_KEY) + RANDOM_CHARACTERS + CHECKSUM_CHARACTERS
        and credential.isascii()
        and hmac.compare_digest(_checksum(credential[:-CHECKSUM_CHARACTERS]), credential[-CHECKSUM_CHARACTERS:])
    )


def visible_prefix(credential: str) -> str:
    return credential[:VISIBLE_CHARACTERS]


def digests(credential: str) -> list[bytes]:
    """Keyed hashes of a credential: under the current secret key first, then under those it replaced."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [hmac.digest(_derived("credentials", key), credential.encode(), "sha256") for key in keys]


@cache
def _derived(purpose: str, key: str) -> bytes:
    return hashlib.blake2b(key.encode(), person=purpose.encode()[:16], digest_size=32).digest()


@cache
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(_derived("at-rest", key))) for key in keys])


def encrypt(plain: str) -> bytes:
    """Encrypted under the current secret key, for columns that must be read back."""
    return _cipher((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)).encrypt(plain.encode())


def decrypt(ciphertext: bytes) -> str:
    """Raises ValueError if no configured secret key can open it."""
    try:
        return _cipher((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)).decrypt(bytes(ciphertext)).decode()
    except (InvalidToken, binascii.Error) as error:
        raise ValueError("stored secret cannot be opened: was MESSAGECORE_SECRET_KEY changed?") from error
