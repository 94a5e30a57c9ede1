"""Keys: who may send, who may read, who may administer.

    <data>/keys.json: [{"id", "role", "digest", "created_ms", "expires_ms", "rate", "note"}, ...]

A key is `onhand_<role>_<id>_<secret>` with 256 random bits, so one round of BLAKE2b is as good as
a slow hash, and costs half a microsecond instead of a request's whole budget. Only digests are
kept. A request's key is hashed and looked up by its digest, then compared in constant time.
Rotation is two keys of a role at once: create the new one, let the old one expire.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from onhand.contracts.errors import OnhandError, Unknown

__all__ = ["ROLES", "Key", "KeyFile", "Role", "digest"]

Role = Literal["ingest", "read", "admin"]
ROLES: Final[tuple[Role, ...]] = ("ingest", "read", "admin")
_SECRET_BYTES: Final = 32


class Key(Struct, frozen=True, omit_defaults=True):
    """A key as it is kept. `rate` is how many requests a second it may make, with bursts of two
    seconds' worth; 0 is no limit."""

    id: str
    role: Role
    digest: str
    created_ms: int
    expires_ms: int | None = None
    rate: Annotated[float, Meta(ge=0, le=1e9)] = 0
    note: str = ""


class KeysDamaged(OnhandError):
    """The file of keys cannot be read: nobody can be told from anybody."""


class KeyFile:
    """The keys of a data folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.json"

    def read(self) -> list[Key]:
        """Return all keys, expired ones included. Raises `KeysDamaged`."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=list[Key])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            raise KeysDamaged(
                "keys_damaged",
                f"The keys in {self.path} cannot be read ({error}). Restore the file, or move it "
                "away and create new keys.",
            ) from error

    def changed_ns(self) -> int:
        """Return when the file was last written; 0 when there is none."""
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return 0

    def create(
        self,
        role: Role,
        now_ms: int,
        lifetime_ms: int | None = None,
        rate: float = 0,
        note: str = "",
    ) -> str:
        """Add a key, and return it: the only time it can be seen."""
        name = secrets.token_hex(4)
        text = f"onhand_{role}_{name}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        expires_ms = None if lifetime_ms is None else now_ms + lifetime_ms
        key = Key(name, role, digest(text.encode()).hex(), now_ms, expires_ms, rate, note)
        self._write([*self.read(), key])
        return text

    def revoke(self, name: str, now_ms: int, after_ms: int = 0) -> Key:
        """Let a key expire, at once or after some time in which both it and its successor hold.
        Raises `Unknown`."""
        keys = self.read()
        for place, key in enumerate(keys):
            if key.id == name:
                keys[place] = msgspec.structs.replace(key, expires_ms=now_ms + after_ms)
                self._write(keys)
                return keys[place]
        raise Unknown("unknown_key", f"There is no key {name!r}; `onhand keys list` shows all.")

    def _write(self, keys: Sequence[Key]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".partial")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        aside.rename(self.path)


def digest(text: bytes) -> bytes:
    """Return what is kept of a key."""
    return hashlib.blake2b(text, digest_size=32, person=b"onhand-key").digest()


def is_same(one: bytes, other: bytes) -> bool:
    """Whether two digests are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)
