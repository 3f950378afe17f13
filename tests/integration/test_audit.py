"""History that cannot be rewritten, shortened or replaced unnoticed. The attacker owns the database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from chargehand.app.application import Application
from chargehand.app.audit import Audit, Auditor, HeadFile, read_head, write_head
from chargehand.domain import seals
from chargehand.domain.errors import AuditBroken, BadConfiguration, BadRequest, DatabaseRefuses
from chargehand.domain.seals import Head
from chargehand.engine.sweep import Sweep
from chargehand.settings import Settings
from chargehand.store import migrate
from tests.builders import make_spec
from tests.older_schema import back_to_before
from tests.world import MASTER, World, close_world, open_world

SAFE = make_spec("deploy_page", retry_safe=True)
BEHIND = "SET session_replication_role = replica"  # what the database's owner can do: no trigger sees it


@pytest.fixture
def heads(tmp_path: Path) -> HeadFile:
    return HeadFile(tmp_path / "head.json")


@pytest.fixture
def auditor(database_url: str, heads: HeadFile) -> Auditor:
    return Auditor(database_url, MASTER, heads)


async def swept(world: World, heads: HeadFile) -> None:
    await Sweep(world.engine, world.control, heads=heads).chain_seals()


async def ended(world: World, words: str = "do it") -> UUID:
    agent = world.agents.get("infra-1") or await world.agent("infra-1", SAFE)
    request_id = await world.approved("deploy_page", words=words)
    await world.engine.dispatch()
    await agent.work_off()
    return request_id


async def write(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in (BEHIND, *statements):
            await connection.execute(statement)
    finally:
        await connection.close()


def told(audit: Audit) -> str:
    return "; ".join([*audit.chain, *audit.wrong.values()])


async def test_the_database_refuses_to_change_or_remove_events(world: World) -> None:
    request_id = await ended(world)
    for sql in (
        "UPDATE events SET kind = 'x' WHERE request_id = $1",
        "DELETE FROM events WHERE request_id = $1",
    ):
        with pytest.raises(DatabaseRefuses, match="append-only"):
            await world.run(sql, request_id)
    with pytest.raises(DatabaseRefuses, match="append-only"):
        await world.run("TRUNCATE events")


async def test_an_untouched_history_holds(world: World, auditor: Auditor, heads: HeadFile) -> None:
    await ended(world)
    assert ((audit := await auditor.verify()).holds, audit.seals, audit.waiting) == (True, 2, 2)
    await swept(world, heads)
    assert ((audit := await auditor.verify()).holds, audit.seals, audit.waiting) == (True, 2, 0)
    assert audit.head == heads.last()
    assert audit.head.position == 2


ALL_OF = "SELECT request_id FROM requests ORDER BY created_at"
LAST_ONE = f"({ALL_OF} DESC LIMIT 1)"
FIRST_ONE = f"({ALL_OF} LIMIT 1)"


def vanish(which: str) -> str:
    """The row of the request goes last: until then the subquery means the same one."""
    return "; ".join(f"DELETE FROM {table} WHERE request_id = {which}" for table in ("events", "seals", "requests"))


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ('UPDATE events SET data = \'{"approver": "mallory"}\' WHERE seq = 4', "an event was altered"),
        ("UPDATE events SET at = at + interval '1 microsecond' WHERE seq = 1", "an event was altered"),
        ("DELETE FROM events WHERE seq = 3", "events were removed: number 3"),
        ("DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)", "events were removed"),
        ("UPDATE seals SET event_count = event_count - 1 WHERE kind = 'ended'", "seals were altered"),
        ("UPDATE seals SET kind = 'pruned' WHERE kind = 'ended'; DELETE FROM events", "not by Chargehand"),
        (
            "INSERT INTO seals (request_id, event_count, kind, mac, key_name) SELECT request_id, event_count, 'pruned',"
            " mac, key_name FROM seals WHERE kind = 'ended'; DELETE FROM events; DELETE FROM requests",
            "said to be pruned, but not by Chargehand",
        ),
        ("DELETE FROM events; DELETE FROM requests", "the request was removed, with all its events"),
        ("DELETE FROM requests", "its events are still there"),
        (vanish(FIRST_ONE), "2 seals were removed: number 1, number 2"),
        (vanish(LAST_ONE), "the chain has 2 seals and had 4"),
        ("DELETE FROM seals WHERE kind = 'ended'", "its seal is missing"),
        ("DELETE FROM seals; DELETE FROM events; DELETE FROM requests", "the chain has 0 seals and had 4"),
        ("UPDATE seals SET position = 9 - position", "were removed"),
        ("UPDATE seals SET position = NULL, link = NULL", "the chain has 0 seals and had 4"),
        (
            "UPDATE seals SET position = 5 WHERE position = 1; UPDATE seals SET position = 1 WHERE position = 3;"
            " UPDATE seals SET position = 3 WHERE position = 5",
            "seals were altered",
        ),
        ("UPDATE seals SET link = md5(link)", "seals were altered"),
        ("UPDATE requests SET status = 'running', ended_at = NULL", "its row says that it goes on"),
        (
            "INSERT INTO events (request_id, seq, kind, data) VALUES (gen_random_uuid(), 1, 'request.accepted', '{}')",
            "nobody accepted",
        ),
        (
            "INSERT INTO seals (request_id, event_count, kind, mac, key_name, position, link) SELECT request_id, 99,"
            " 'ended', mac, key_name, 5, link FROM seals WHERE position = 4",
            "events were removed",
        ),
        ("UPDATE requests SET event_count = event_count + 1", "events were added after its seal"),
    ],
)
async def test_tampering_behind_the_trigger_is_found(  # noqa: PLR0917 - fixtures
    world: World, auditor: Auditor, heads: HeadFile, database_url: str, tampering: str, found: str
) -> None:
    for words in ("the first", "the second"):
        await ended(world, words)
        await swept(world, heads)
    assert (await auditor.verify()).holds
    await write(database_url, tampering)
    assert found in told(await auditor.verify())


async def test_what_vanished_stays_found_when_the_chain_has_grown_again(
    world: World, auditor: Auditor, heads: HeadFile, database_url: str
) -> None:
    for words in ("the first", "the second"):
        await ended(world, words)
        await swept(world, heads)
    kept = heads.last()
    await write(database_url, vanish(LAST_ONE))
    for words in ("another", "and another"):
        await ended(world, words)
        await swept(world, heads)
    audit = await auditor.verify()
    assert audit.seals == 6
    assert audit.wrong == {}
    assert "seal number 4 is another one than it was" in told(audit)
    assert heads.last() == kept, "an older head that nobody can explain is not replaced"


async def test_a_request_that_vanishes_before_it_ends_is_found(
    world: World, auditor: Auditor, heads: HeadFile, database_url: str
) -> None:
    await world.agent("infra-1", SAFE)
    await world.planned("deploy_page")
    await swept(world, heads)
    await write(database_url, "DELETE FROM events; DELETE FROM requests")
    assert "the request was removed" in told(await auditor.verify())


async def test_a_first_seal_cannot_be_made_again_over_another_beginning(
    world: World, auditor: Auditor, heads: HeadFile, database_url: str
) -> None:
    """The sweep makes first seals, so it could be led to make one over what somebody else wrote."""
    await ended(world)
    await swept(world, heads)
    await write(
        database_url,
        'UPDATE events SET data = data || \'{"requester": "mallory"}\' WHERE seq = 1',
        "UPDATE seals SET position = NULL, link = NULL, mac = '' WHERE kind = 'accepted'",
    )
    await swept(world, heads)
    audit = await auditor.verify()
    assert "number 1" in told(audit)
    assert "an event was altered" in told(audit)


async def test_two_servers_seal_at_the_same_time(
    world: World, database_url: str, auditor: Auditor, heads: HeadFile
) -> None:
    other = await open_world(database_url)
    try:
        for number in range(4):
            await ended(world, f"request {number}")
            await asyncio.gather(*(swept(each, heads) for each in (world, other, world, other)))
        await swept(world, heads)
    finally:
        await close_world(other)
    audit = await auditor.verify()
    assert (audit.holds, audit.seals, audit.waiting, audit.head.position) == (True, 8, 0, 8)


async def test_a_seal_cannot_be_made_without_the_master_key(
    world: World, database_url: str, auditor: Auditor, heads: HeadFile
) -> None:
    await ended(world)
    await swept(world, heads)
    assert "another master key" in told(await Auditor(database_url, b"another key", heads).verify())
    other = await open_world(database_url)
    try:
        other.store._seal_key = seals.seal_key(b"x" * 32)
        await write(database_url, "UPDATE seals SET position = NULL, link = NULL")
        await swept(other, HeadFile(heads._path.with_name("other")))
    finally:
        await close_world(other)
    assert "seals were altered" in told(await auditor.verify())


class TestHeads:
    async def test_a_head_that_was_exported_finds_a_chain_cut_off_or_written_anew(
        self, world: World, auditor: Auditor, heads: HeadFile, database_url: str, tmp_path: Path
    ) -> None:
        await ended(world)
        await swept(world, heads)
        write_head(tmp_path / "kept", (await auditor.verify()).head)
        head = read_head(tmp_path / "kept")
        await ended(world, "more")
        await swept(world, heads)
        assert (await auditor.verify(("kept", head))).holds, "a longer chain still holds the older head"
        heads.forget()  # who can write to the home too
        await write(database_url, "DELETE FROM seals; DELETE FROM events; DELETE FROM requests")
        assert (await auditor.verify()).holds
        assert "(by kept)" in told(await auditor.verify(("kept", head)))
        for words in ("one", "two", "three"):
            await ended(world, words)
        await swept(world, heads)
        assert "another one than it was (by kept)" in told(await auditor.verify(("kept", head)))

    def test_a_file_is_a_head_or_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "head"
        write_head(path, Head(3, "abc", "name"))
        assert read_head(path) == Head(3, "abc", "name")
        with pytest.raises(BadRequest, match="there already"):
            write_head(path, Head(4, "abc", "name"))
        for text in ("", "[]", "{}", '{"chargehand": "audit head", "position": true}', "[" * 5000):
            path.write_text(text)
            with pytest.raises(BadConfiguration, match="does not hold the head"):
                read_head(path)
        with pytest.raises(BadConfiguration, match="cannot read"):
            read_head(tmp_path / "none")


class TestPruning:
    @pytest.fixture
    async def app(self, world: World, database_url: str, tmp_path: Path) -> Application:
        app = Application(Settings(home=tmp_path), database_url, MASTER)
        await app.store.open()
        return app

    async def test_what_ended_long_ago_goes_and_its_seals_stay(
        self, world: World, app: Application, database_url: str
    ) -> None:
        old, young = await ended(world, "old"), await ended(world, "young")
        await write(
            database_url, f"UPDATE requests SET ended_at = now() - interval '9 days' WHERE request_id = '{old}'"
        )
        assert await app.prune(7, only_count=True) == 1
        assert len(await app.events(old)) > 5
        assert await app.prune(7, only_count=False) == 1
        assert await app.events(old) == []
        assert [request.request_id for request in await app.requests()] == [young]
        audit = await app.verify_audit()
        assert (audit.holds, audit.seals, audit.waiting) == (True, 5, 0)
        await write(database_url, f"DELETE FROM seals WHERE request_id = '{old}' AND kind = 'pruned'")
        assert "number 5" in told(await app.verify_audit()) or "had 5" in told(await app.verify_audit())
        await app.store.close()

    async def test_what_was_altered_is_not_pruned(self, world: World, app: Application, database_url: str) -> None:
        await ended(world)
        await write(
            database_url,
            "UPDATE requests SET ended_at = now() - interval '9 days'",
            "UPDATE events SET kind = 'x' WHERE seq = 2",
        )
        with pytest.raises(AuditBroken, match="an event was altered"):
            await app.prune(7, only_count=False)
        assert len(await app.requests()) == 1
        await app.store.close()


FORGED = """
INSERT INTO approvals (plan_id, digest, approver, decision, mac) SELECT plan_id, digest, 'mallory', 'approved',
    repeat('0', 64) FROM plans
"""


class TestWhy:
    @pytest.fixture
    async def app(self, world: World, database_url: str, tmp_path: Path) -> Application:
        return Application(Settings(home=tmp_path), database_url, MASTER)

    async def test_it_tells_from_events_and_finds_nothing_where_nothing_was_changed(
        self, world: World, app: Application
    ) -> None:
        request_id = await ended(world)
        trail = await app.trail(request_id)
        assert trail.differences == ()
        assert [(each.approver, each.approval_id is not None) for each in trail.approvals] == [("ann", True)]
        assert trail.sealed is not None
        assert (trail.sealed.events, trail.sealed.problem) == (len(trail.events), None)

    @pytest.mark.parametrize(
        ("tampering", "said"),
        [
            (FORGED, "“approved by mallory” is in the table, and no event tells of it"),
            (FORGED, "“approved by mallory” is not signed"),
            ("UPDATE approvals SET approver = 'mallory'", "no row is left of “approved by ann”"),
            ("UPDATE approvals SET created_at = created_at - interval '1 day'", "not signed"),
            ("DELETE FROM approvals", "no row is left of “approved by ann”"),
            ("UPDATE requests SET requester = 'mallory'", "the requester of the request is “mallory”"),
            ("UPDATE requests SET text = 'other words'", "the text of the request is"),
            ("UPDATE requests SET wording = 'other words'", "the wording of the request is"),
            ("UPDATE requests SET status = 'failed'", "the status of the request is “failed”"),
            ("UPDATE plans SET digest = repeat('0', 64)", "the digest of plan 1"),
            (
                "UPDATE plans SET plan = jsonb_set(plan, '{tasks,0,risk}', '\"destroy\"')",
                "the digest of what is in plan 1",
            ),
            ('UPDATE plans SET ruling = ruling || \'{"action": "run"}\'', "the ruling on plan 1 is “run”"),
            ("UPDATE plans SET status = 'expired'", "the status of plan 1 is “expired”"),
            ("UPDATE tasks SET status = 'failed'", "the status of step 1 is “failed”"),
            ('UPDATE tasks SET spec = spec || \'{"name": "other"}\'', "step 1 is not what its plan has there"),
            ("DELETE FROM tasks", "1 steps that events tell of are not in the table"),
            ("UPDATE attempts SET status = 'lost'", "is “lost” in the table, and “succeeded” in the events"),
            ("DELETE FROM attempts", "no row is left of attempt"),
            (
                "INSERT INTO reviews (request_id, kind, reason, context, resolution, resolved_by) SELECT request_id,"
                " 'quarantine', 'forged', '{}', 'done', 'mallory' FROM requests",
                "the review “forged” is in the table",
            ),
            ("UPDATE decompositions SET model = 'other'", "what was understood is not"),
        ],
    )
    async def test_a_table_that_was_changed_is_named(
        self, world: World, app: Application, database_url: str, tampering: str, said: str
    ) -> None:
        request_id = await ended(world)
        await write(database_url, tampering)
        trail = await app.trail(request_id)
        assert any(said in difference for difference in trail.differences), trail.differences
        assert [approval.approver for approval in trail.approvals] == ["ann"], "who agreed is told from the events"

    @pytest.mark.parametrize(
        ("kind", "data"),
        [
            ("approval.approved", '{"approver": "mallory"}'),
            ("approval.approved", '{"approver": 7, "plan_id": "x", "digest": [], "words": {}}'),
            ("approval.rejected", "[1, 2]"),
            ("plan.pending_approval", '{"plan": {"plan_id": "x"}}'),
            ("plan.pending_approval", '{"plan": []}'),
            ("review.opened", "{}"),
            ("attempt.leased", "{}"),
            ("request.decomposed", '{"subtasks": 1}'),
        ],
    )
    async def test_events_that_nobody_here_writes_end_nothing(
        self, world: World, app: Application, database_url: str, kind: str, data: str
    ) -> None:
        request_id = await ended(world)
        insert = f"INSERT INTO events (request_id, seq, kind, data) VALUES ('{request_id}', 99, '{kind}', '{data}')"
        await write(database_url, insert)
        trail = await app.trail(request_id)
        assert trail.differences
        assert [approval.approver for approval in trail.approvals] == ["ann"]
        assert trail.sealed is not None
        assert trail.sealed.problem == "events were added after its seal, or its last seal was removed"

    async def test_events_that_were_altered_are_named(self, world: World, app: Application, database_url: str) -> None:
        request_id = await ended(world)
        forged = "UPDATE events SET data = data || '{\"approver\": \"mallory\"}' WHERE kind = 'approval.approved'"
        await write(database_url, forged, "UPDATE approvals SET approver = 'mallory'")
        trail = await app.trail(request_id)
        assert trail.sealed is not None
        assert trail.sealed.problem == "an event was altered"


async def test_histories_from_before_the_chain_are_taken_into_it(
    database_url: str, world: World, auditor: Auditor, heads: HeadFile
) -> None:
    """As a database of schema 0003 is after its upgrade."""
    first, second = await ended(world, "first"), await ended(world, "second")
    await write(database_url, *back_to_before("0004"))
    await asyncio.to_thread(migrate.upgrade, database_url)
    assert await migrate.current(database_url) == migrate.HEAD
    audit = await auditor.verify()
    assert (audit.holds, audit.seals, audit.waiting) == (True, 4, 4)
    await swept(world, heads)
    audit = await auditor.verify()
    assert (audit.holds, audit.waiting, audit.head.position) == (True, 0, 4)
    assert first != second
