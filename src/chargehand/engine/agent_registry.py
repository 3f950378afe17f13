"""What the operator does to agents: enrol, rotate keys, grant, revoke, drain, remove. Each is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from chargehand.domain.envelopes import derive_key
from chargehand.domain.errors import BadRequest, UnknownId
from chargehand.engine.transactions import Store

if TYPE_CHECKING:
    from chargehand.store.transaction import Transaction

AGENT_TYPES = ("infra", "code", "research", "desktop")
ACCEPT_ALL = "auto-accept"
"""The policy by which everything an agent offers is granted; without it an operator grants each intent."""


class Registry:
    """The operator's commands on agents. Keys are derived, never stored; the caller hands them over."""

    def __init__(self, store: Store, master_key: bytes) -> None:
        self._store = store
        self._master_key = master_key

    async def enrol(
        self,
        name: str,
        *,
        agent_type: str = "infra",
        pool: str = "default",
        specializations: Sequence[str] | None = None,
        accept_all: bool = False,
    ) -> tuple[UUID, bytes, int]:
        """Make a new agent known; return its id, key and key generation. Raises `BadRequest` for a name in use."""
        if not name.isprintable() or not 1 <= len(name) <= 60:
            raise BadRequest(f"{name!r} is not a name for an agent", hint="Use 1 to 60 printable characters.")
        if agent_type not in AGENT_TYPES:
            raise BadRequest(f"{agent_type!r} is not a type of agent", hint=f"One of {', '.join(AGENT_TYPES)}.")
        agent_id = uuid4()
        async with self._store.transaction() as tx:
            if await tx.fetch("agent_by_name", name):
                raise BadRequest(
                    f"there is an agent {name!r} already", hint="Choose another name, or rotate that one's key."
                )
            policy = ACCEPT_ALL if accept_all else None
            generation = await tx.enrol(
                agent_id, name, agent_type=agent_type, pool=pool, grant_policy=policy, specializations=specializations
            )
        return agent_id, derive_key(self._master_key, str(agent_id), generation), generation

    async def rotate(self, name: str) -> tuple[UUID, bytes, int]:
        """Give an agent a new key; its old one is good until it has spoken with the new one."""
        async with self._store.transaction() as tx:
            agent_id = await self._find(tx, name)
            generation = int((await tx.fetch("next_generation", agent_id))[0]["key_generation"])
        return agent_id, derive_key(self._master_key, str(agent_id), generation), generation

    async def grant(self, name: str, intents: Sequence[str] | None, who: str) -> list[str]:
        """Let an agent run these of the intents it offers (None: all); return which."""
        return await self._set_grants(name, intents, who, granted=True)

    async def revoke(self, name: str, intents: Sequence[str] | None, who: str) -> list[str]:
        """Take grants back; running work continues."""
        return await self._set_grants(name, intents, who, granted=False)

    async def drain(self, name: str, *, drained: bool) -> None:
        """Give an agent no more work (it finishes what it has), or let it work again."""
        async with self._store.transaction() as tx:
            await tx.execute("set_drained", await self._find(tx, name), drained)
            tx.wakes.add("dispatch")

    async def configure(self, name: str, *, pool: str | None, specializations: Sequence[str] | None) -> None:
        """Change an agent's pool or what the operator says it is especially good at."""
        own = None if specializations is None else list(specializations)
        async with self._store.transaction() as tx:
            await tx.execute("configure_agent", await self._find(tx, name), pool, own)

    async def remove(self, name: str) -> None:
        """Shut an agent out: its keys stop working. Its history stays; its leases run out."""
        async with self._store.transaction() as tx:
            agent_id = await self._find(tx, name)
            await tx.execute("remove_agent", agent_id)
            await tx.execute("drop_all_offers", agent_id)

    async def _set_grants(self, name: str, intents: Sequence[str] | None, who: str, *, granted: bool) -> list[str]:
        async with self._store.transaction() as tx:
            agent_id = await self._find(tx, name)
            wanted = None if intents is None else list(intents)
            rows = await tx.fetch("set_grants", agent_id, wanted, granted, who)
            tx.wakes.add("dispatch")
        found = sorted(row["intent"] for row in rows)
        missing = sorted(set(intents or ()) - set(found))
        if missing:
            raise UnknownId(f"{name} offers no {', '.join(missing)}", hint="`chargehand agents` lists what it offers.")
        return found

    async def _find(self, tx: Transaction, name: str) -> UUID:
        rows = await tx.fetch("agent_by_name", name)
        if not rows:
            raise UnknownId(f"there is no agent {name!r}", hint="`chargehand agents` lists them.")
        return UUID(str(rows[0]["agent_id"]))
