"""A backup's manifest: what it says about itself. Pure.

Restoring a dump runs whatever SQL is in it, so the manifest has digests of the other members and is itself signed with
a key derived from the master key. Only a backup that brings the key along, into a home without one, is taken at its
word: then there is nothing to check it against.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from chargehand.domain.errors import BadRequest, SchemaTooNew

MANIFEST, DATABASE, KEY = "manifest.json", "database.dump", "master.key"
LARGEST = 64 << 10  # bytes of a manifest; a real one has 700
ANOTHER = "Use another backup; nothing was changed here."


class BadArchive(BadRequest):
    """A file is not a backup, or not the one that was written."""

    code = "bad-archive"
    hint = ANOTHER


class Member(BaseModel):
    """One file in the backup. `size` is in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    sha256: str


class Manifest(BaseModel):
    """When, from what and with what a backup was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    chargehand: str
    created_at: str
    schema_revision: str
    postgres: int
    """Major version of the server. A dump may not fit an older one."""
    pg_dump: int
    """Major version of the program; an older pg_restore cannot read what it wrote."""
    rows: dict[str, int]
    """How many there are of what, counted in the dump's own snapshot."""
    members: dict[str, Member]


def sign(manifest: Manifest, master: bytes) -> bytes:
    """Return the manifest as it is written."""
    value = manifest.model_dump(mode="json")
    return json.dumps({"manifest": value, "mac": _mac(value, master)}, indent=1, sort_keys=True).encode()


def unsigned(text: bytes) -> Manifest:
    """Read a manifest without knowing who wrote it. Raises `BadArchive`."""
    try:
        return Manifest.model_validate(json.loads(text)["manifest"])
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise BadArchive("this is not a backup: its manifest cannot be read") from error


def check_signature(text: bytes, master: bytes) -> None:
    """Raise `BadArchive` unless the manifest was signed with this master key."""
    said = json.loads(text)
    if not hmac.compare_digest(str(said.get("mac", "")).encode(), _mac(said["manifest"], master).encode()):
        raise BadArchive(
            "the backup was altered, or belongs to another master key than this home's",
            hint="Restore it where its master key is, or into a home without one if the backup holds its key.",
        )


def check_member(name: str, said: Member, size: int, sha256: str) -> None:
    """Raise `BadArchive` unless a member is the one that was written."""
    if (said.size, said.sha256) != (size, sha256):
        raise BadArchive(f"the backup is damaged: {name} is not what was written")


def check_schema(manifest: Manifest, newest: str) -> None:
    """Raise `SchemaTooNew` for a backup that this version cannot read."""
    if manifest.schema_revision > newest:
        raise SchemaTooNew(
            f"the backup has schema {manifest.schema_revision} of Chargehand {manifest.chargehand}, this one knows"
            f" {newest}",
            hint="Restore it with a Chargehand at least as new as the one that wrote it.",
        )


def check_rows(manifest: Manifest, found: dict[str, int]) -> None:
    """Raise `BadArchive` unless as many rows arrived as were dumped."""
    wrong = [
        f"{found.get(table, 0)} of {rows} {table}" for table, rows in manifest.rows.items() if found.get(table) != rows
    ]
    if wrong:
        raise BadArchive(f"the dump is not whole: it brought {', '.join(wrong)}")


def _mac(value: dict[str, Any], master: bytes) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hmac.digest(hmac.digest(master, b"chargehand backup", "sha256"), canonical, hashlib.sha256).hex()
