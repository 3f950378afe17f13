"""The audit: all seals and their chain, against the events, and against heads of the chain that were kept elsewhere."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from chargehand.domain import bounded_json, consent, seals
from chargehand.domain.errors import BadConfiguration, BadRequest, DiskFull, UnreadableText
from chargehand.domain.seals import EMPTY, Head, Seal
from chargehand.store.audit_rows import AuditRows, one_moment

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AT_ONCE = 200  # requests whose events are in memory together: some MB
HEAD_BYTES = 4096  # of a file with a head; it has some 200


@dataclass(frozen=True)
class Audit:
    """What an audit found. `waiting`: seals that are not in the chain yet. `wrong`: request -> what is wrong with it.

    `chain` is what is wrong with the chain as a whole.
    """

    seals: int
    waiting: int
    wrong: Mapping[UUID, str]
    chain: Sequence[str]
    head: Head

    @property
    def holds(self) -> bool:
        """Whether nothing sealed was altered, removed or added to."""
        return not self.wrong and not self.chain


@dataclass(frozen=True)
class Sealed:
    """How much of one request's history its seals cover, and what is wrong with it."""

    events: int
    problem: str | None


class HeadFile:
    """The newest head of the chain, in a file of the home: whoever has only the database cannot take it back."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def last(self) -> Head:
        """Return what was kept last; `EMPTY` when there is nothing. Raises `BadConfiguration` for another content."""
        return read_head(self._path) if self._path.exists() else EMPTY

    def keep(self, head: Head) -> None:
        """Keep this one from now on."""
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(_text(head))
        temporary.replace(self._path)

    def forget(self) -> None:
        """Remove it: the database is replaced on purpose."""
        self._path.unlink(missing_ok=True)


def head_file(home: Path) -> HeadFile:
    """Return where a home keeps the head of its chain."""
    return HeadFile(home / "audit-head.json")


def read_head(path: Path) -> Head:
    """Read a head from a file. Raises `BadConfiguration` when there is none in it."""
    try:
        with path.open("rb") as file:
            return Head.from_json(bounded_json.loads(file.read(HEAD_BYTES), most=HEAD_BYTES))
    except OSError as error:
        raise BadConfiguration(f"cannot read {path}: {error.strerror}") from error
    except (UnreadableText, ValueError) as error:
        hint = (
            "`chargehand audit export` writes one. If it is the home's own, move it away and find out who changed it."
        )
        raise BadConfiguration(f"{path} does not hold the head of an audit chain", hint=hint) from error


def write_head(path: Path, head: Head) -> None:
    """Write a head into a new file. Raises `BadRequest` when there is one already, `DiskFull` when it cannot be."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            file.write(_text(head))
    except FileExistsError as error:
        raise BadRequest(f"{path} is there already", hint="Give another name: an old head must not be lost.") from error
    except OSError as error:
        raise DiskFull(f"cannot write {path}: {error.strerror}", hint="Give another place.") from error


def _text(head: Head) -> str:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({**head.as_json(), "written_at": at}, indent=2) + "\n"


class Auditor:
    """Checks the seals of one database with one home's key."""

    def __init__(self, dsn: str, master: bytes, heads: HeadFile) -> None:
        self._dsn, self._key, self._heads = dsn, seals.seal_key(master), heads

    async def verify(self, *others: tuple[str, Head], own: bool = True) -> Audit:
        """Check everything. `others` are heads that were kept elsewhere, each with what to call it.

        Without `own` the home's head is left out: it is of another database.
        """
        heads = (("the head that this home kept", self._heads.last() if own else EMPTY), *others)  # before the database
        async with one_moment(self._dsn) as rows:
            found = await rows.seals()
            wrong = await self._wrong(rows, found)
        chain = seals.check_chain(self._key, found)
        chain += [f"{problem} (by {name})" for name, head in heads if (problem := seals.check_head(head, found))]
        last = max((seal for seal in found if seal.position), key=lambda seal: seal.position or 0, default=None)
        head = Head(last.position or 0, last.link or "", last.key_name) if last else EMPTY
        return Audit(len(found), sum(seal.position is None for seal in found), wrong, chain, head)

    async def _wrong(self, rows: AuditRows, found: Sequence[Seal]) -> dict[UUID, str]:
        wrong = dict.fromkeys(await rows.strays(), "there are events of a request that nobody accepted")
        states, by_request = await rows.requests(), _by_request(found)
        ids = sorted({*states, *by_request})
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            events = await rows.events(some)
            for request_id in some:
                own, state = by_request.get(request_id, []), states.get(request_id)
                if problem := seals.check_request(self._key, own, events[request_id], state):
                    wrong[request_id] = problem
        return wrong

    async def look_at(self, request_id: UUID) -> Sealed:
        """Check the history of one request."""
        async with one_moment(self._dsn) as rows:
            own = await rows.seals(request_id)
            events, states = await rows.events([request_id]), await rows.requests(request_id)
        problem = seals.check_request(self._key, own, events[request_id], states.get(request_id))
        covered = max((seal.event_count for seal in own if not seal.is_empty), default=0)
        return Sealed(covered, problem)

    def is_signed(self, request_id: UUID, approval: Mapping[str, object]) -> bool:
        """Whether a row of `approvals` is signed with this home's key."""
        at = approval["created_at"]
        assert isinstance(at, datetime)
        about = consent.About(request_id, UUID(str(approval["plan_id"])), str(approval["digest"]))
        key, microseconds = consent.consent_key(self._key), (at - EPOCH) // timedelta(microseconds=1)
        said = str(approval["approver"]), str(approval["decision"]), microseconds
        return consent.same(str(approval["mac"]), consent.approval_mac(key, about, *said))


def _by_request(found: Sequence[Seal]) -> dict[UUID, list[Seal]]:
    by_request: dict[UUID, list[Seal]] = {}
    for seal in found:
        by_request.setdefault(seal.request_id, []).append(seal)
    return by_request
