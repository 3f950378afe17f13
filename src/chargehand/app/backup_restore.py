"""Back up an installation into one file, and restore it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from chargehand import __version__, keys
from chargehand.app.application import Application, start_private_postgres
from chargehand.app.audit import Audit, head_file
from chargehand.backup import backup, restore
from chargehand.backup.manifest import Manifest, Member, check_rows, check_schema
from chargehand.backup.programs import Program, find
from chargehand.domain.errors import BadConfiguration, BadRequest
from chargehand.domain.states import RequestStatus
from chargehand.private_postgres.binaries import SYSTEM, candidates
from chargehand.settings import Settings
from chargehand.store import backup_copies, migrate


@dataclass(frozen=True)
class Restored:
    """What a restore did: the old database's new name, requests that were held back, and seals that do not hold.

    `wrong` is by request; what is wrong with the chain as a whole stands under `chain`.
    """

    manifest: Manifest
    kept: str | None
    paused: Sequence[UUID]
    wrong: Mapping[str, str]


async def make_backup(settings: Settings, target: Path, *, with_key: bool) -> Manifest:
    """Write a backup while everything goes on. Never changes the database, so that it works before an upgrade too.

    Raises what `backup.backup.back_up` raises, `DatabaseUnreachable`, and `BadConfiguration` when there is nothing to
    back up, no key, or no pg_dump that is new enough.
    """
    master = _own_key(settings)
    if master is None:
        raise BadConfiguration(
            f"there is no master key in {settings.home}",
            hint="Set CHARGEHAND_HOME to the home that this database belongs to.",
        )
    dsn = await _address(settings)
    async with backup_copies.snapshot(dsn) as taken:
        pg_dump = await asyncio.to_thread(find, "pg_dump", taken.postgres, taken.postgres, programs(settings))

        def describe(members: dict[str, Member]) -> Manifest:
            return Manifest(
                chargehand=__version__,
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                schema_revision=taken.revision,
                postgres=taken.postgres,
                pg_dump=pg_dump.major,
                rows=taken.rows,
                members=members,
            )

        async def dump(path: Path) -> None:
            await backup.dump_database(pg_dump, dsn, taken.name, path)

        return await backup.back_up(target, dump, describe, master, with_key=with_key)


async def bring_back(settings: Settings, archive: Path, *, replace: bool) -> Restored:
    """Restore a backup: into a fresh database first, which then replaces the one that is there.

    Until that last step nothing has changed. Raises `BadArchive`, `BadConfiguration`, `SchemaTooNew`, `BadRequest`
    without `replace` when the database is not empty, and `TransientError` when others use it.
    """
    async with AsyncExitStack() as stack:
        found = stack.enter_context(restore.unpacked(archive, _own_key(settings), settings.home))
        check_schema(found.manifest, migrate.HEAD)
        dsn = await _address(settings)
        ground = await backup_copies.survey(dsn)
        check_ground(ground, found.manifest, replace=replace)
        pg_restore = await asyncio.to_thread(
            find, "pg_restore", found.manifest.pg_dump, ground.postgres, programs(settings)
        )
        stack.enter_context(restore.key_in_place(settings.home / "master.key", found.key))
        async with backup_copies.alone(dsn):
            url = await backup_copies.fresh(dsn, ground.database)
            stack.push_async_callback(
                backup_copies.drop, dsn, f"{ground.database}_restoring"
            )  # after the swap there is none of that name
            paused, audit = await _fill(settings, found, url, pg_restore)
            heads = head_file(settings.home)
            heads.forget()  # it is of the database that goes; after this the one that comes has its own
        kept = await backup_copies.swap(dsn, ground.database)
        if ground.tables == 0:
            await backup_copies.drop(dsn, kept)
        heads.keep(audit.head)
        wrong = {**{str(request_id): problem for request_id, problem in audit.wrong.items()}}
        wrong |= {"chain": "; ".join(audit.chain)} if audit.chain else {}
        return Restored(found.manifest, kept if ground.tables else None, paused, wrong)


def check_ground(ground: backup_copies.Ground, manifest: Manifest, *, replace: bool) -> None:
    """Raise `BadRequest` or `BadConfiguration` when the backup may not, or cannot, go there."""
    if ground.tables and not replace:
        raise BadRequest(
            f"the database {ground.database} is not empty: it has {ground.requests} requests",
            hint="`--replace` puts the backup in its place and keeps what is there under another name.",
        )
    if ground.postgres < manifest.postgres:
        raise BadConfiguration(
            f"the backup is of a PostgreSQL {manifest.postgres}, this is {ground.postgres}",
            hint=f"Restore it on PostgreSQL {manifest.postgres} or later.",
        )
    if not (ground.owned and ground.may_create):
        raise BadConfiguration(
            f"a restore makes a database and renames {ground.database}, which this database user may not do",
            hint="Let it own the database, and run: ALTER ROLE ... CREATEDB (it may be taken away again afterwards).",
        )


def programs(settings: Settings) -> list[Path]:
    """Return the directories that PostgreSQL's programs may be in, besides the PATH."""
    kept = sorted((settings.home / "postgres" / "dist").glob("pg*/[!.]*/*/*/bin"))
    return [*kept, *(found.directory for found in candidates()), *sorted(SYSTEM.glob("*/bin"))]


async def _fill(
    settings: Settings, found: restore.Unpacked, url: str, pg_restore: Program
) -> tuple[Sequence[UUID], Audit]:
    """Fill a fresh database, and make sure that nothing in it starts by itself."""
    await restore.load_dump(pg_restore, found.dump, url)
    check_rows(found.manifest, await backup_copies.counts(url))
    await migrate.ensure(url, upgrade_old=True)
    await backup_copies.drop_letters(url)
    app = Application(settings, url, found.key)
    await app.store.open()
    try:
        return await _hold_back(app), await app.audits.verify(own=False)
    finally:
        await app.queries.close()
        await app.store.close()


async def _hold_back(app: Application) -> Sequence[UUID]:
    """Pause what runs: what it had not begun when the backup was made may have been done since."""
    paused = []
    while running := await app.requests(RequestStatus.RUNNING):
        for request in running:
            await app.pause(request.request_id, app.settings.user_name)
            paused.append(request.request_id)
    return paused


async def _address(settings: Settings) -> str:
    if settings.database_url is not None:
        return settings.database_url
    return await asyncio.to_thread(start_private_postgres, settings.home)


def _own_key(settings: Settings) -> bytes | None:
    path = settings.home / "master.key"
    return keys.master_key(path) if path.exists() else None
