"""The one place where the parts are put together: from settings to something that can take a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Required, TypedDict, Unpack
from uuid import UUID

from pydantic import JsonValue

from chargehand import folders, keys
from chargehand.app.audit import Audit, Auditor, head_file
from chargehand.app.reads import Reads
from chargehand.broker.transports import transport_of
from chargehand.domain import seals
from chargehand.domain.errors import ChargehandError, DiskFull, StaleStatus, WrongStatus
from chargehand.domain.intents import Otherwise
from chargehand.domain.ports import LLM, SecondReader
from chargehand.domain.priorities import Priority
from chargehand.domain.seals import Head
from chargehand.domain.states import RequestStatus
from chargehand.domain.tiers import EMBEDDED
from chargehand.engine.agent_registry import Registry
from chargehand.engine.engine import Engine
from chargehand.engine.loops import Wake
from chargehand.engine.request_control import RequestControl
from chargehand.engine.sweep import Sweep
from chargehand.llm.litellm_proxy import ProxyLLM
from chargehand.llm.litellm_sdk import SdkLLM
from chargehand.llm.replies import NoAnswer
from chargehand.settings import Endpoint, Settings
from chargehand.store import migrate
from chargehand.store.postgres import PostgresStore
from chargehand.store.queries import Queries
from chargehand.understanding import judgements

if TYPE_CHECKING:
    from chargehand.llm.catalogue_match import CatalogueMatch

log = logging.getLogger("chargehand.app.application")


RECALIBRATE = 600.0  # seconds: some judgements an hour is much, and reading them takes some 0.1 s
JUDGED_DAYS, JUDGED_MOST = 180.0, 5000  # what is read of them: older ones are of another model, prompt or catalog
LOOK_AT_CATALOG = 5.0  # seconds: a query of 1 ms; a request that comes sooner begins the training by itself
TAKE_OVER = 0.5
"""Seconds between tries to become the process that works: short, because somebody may be watching the other one die."""


class Terms(TypedDict, total=False):
    """How a request is to be carried out. `Engine.submit` says what each term means and what it is by default."""

    requester: Required[str]
    key: str | None
    mode: str | None
    dry_run: bool
    priority: Priority
    not_before: datetime | None
    otherwise: Collection[Otherwise] | None


class Application(Reads):
    """What a door asks: it takes requests, lets people decide, and shows what happened.

    `registry` has what an operator does to agents. Whoever decides says who they are; a door knows its user.
    """

    def __init__(self, settings: Settings, dsn: str, master: bytes) -> None:
        self.heads = head_file(settings.home)
        self.audits = Auditor(dsn, master, self.heads)
        super().__init__(Queries(dsn), settings, self.audits)
        self.dsn = dsn
        self.master = master
        self.store = PostgresStore(dsn, seals.seal_key(master))
        self.transport = transport_of(settings.amqp_url)
        self.broker = self.transport.open_broker(settings.amqp_url)
        readers = tiers(settings)
        self.engine = Engine(self.store, self.broker, readers, master, settings)
        self.engine.trust.second_reader = second_reader(readers)
        self.control = RequestControl(self.engine)
        self.registry = Registry(self.store, master)
        self.approved: list[judgements.Approved] = []
        self.wake = Wake()
        self._changed = self.wake.subscribe()

    async def changed(self, timeout: float) -> bool:
        """Return when anything was written, or False after `timeout` seconds: a watcher then looks again."""
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    # --- what people do -----------------------------------------------------------------------------------------------

    async def submit(self, text: str | bytes, **terms: Unpack[Terms]) -> UUID:
        """Accept a request and return its id. Raises `BadRequest`, or `IdempotencyConflict` for a key that is taken."""
        return await self.engine.submit(text, **terms)

    async def approve(self, request_id: UUID, digest: str, who: str, words: str = "") -> RequestStatus:
        """Approve the plan with that digest. Raises `UnknownId`, `PlanChanged`, `NotPermitted`, `WrongStatus`."""
        return await self.control.approve(request_id, digest, who, words)

    async def reject(self, request_id: UUID, who: str, words: str = "", digest: str | None = None) -> RequestStatus:
        """Reject the plan with that digest (None: the newest); with words, have it planned anew from them.

        Raises `UnknownId`, `PlanChanged`, `BadRequest`, and `WrongStatus` when there is no plan to reject.
        """
        if digest is None:
            plan = await self.plan(request_id)
            if plan is None:
                short = str(request_id)[:8]
                raise WrongStatus(f"request {short} has no plan yet", hint="Cancel it, or wait for the plan.")
            digest = plan.digest
        return await self.control.reject(request_id, digest, who, words)

    async def answer(self, request_id: UUID, words: str, who: str) -> RequestStatus:
        """Say a request again, more plainly, after it has asked. Raises `UnknownId`, `WrongStatus`, `BadRequest`."""
        return await self.control.answer(request_id, words, who)

    async def write(self, request_id: UUID, decomposition: dict[str, JsonValue], who: str) -> RequestStatus:
        """Take what a person wrote as what a request means. Raises `BadDecomposition`, `UnknownId`, `WrongStatus`."""
        return await self.control.write(request_id, decomposition, who)

    async def reread(self, who: str) -> list[UUID]:
        """Have everything read again that no model could plan; return those requests, oldest first."""
        return await self.control.reread(who)

    async def cancel(self, request_id: UUID, who: str) -> RequestStatus:
        """Stop a request and its running steps. Raises `UnknownId`, `WrongStatus`."""
        return await self.control.cancel(request_id, who)

    async def pause(self, request_id: UUID, who: str, task_id: UUID | None = None) -> RequestStatus:
        """Start no more steps of a request, or not that one; running steps end. Raises `UnknownId`, `WrongStatus`."""
        return await self.control.pause(request_id, who, task_id)

    async def resume(self, request_id: UUID, who: str, task_id: UUID | None = None) -> RequestStatus:
        """Continue what was paused. Raises `UnknownId`, `WrongStatus`."""
        return await self.control.resume(request_id, who, task_id)

    async def retry(self, request_id: UUID, who: str, *, assume_done: bool = False) -> RequestStatus:
        """Continue a request from the failed step. Raises `UnknownId`, `WrongStatus`, `MissingOutput`."""
        return await self.control.retry(request_id, who, assume_done=assume_done)

    # --- what an installation needs -----------------------------------------------------------------------------------

    async def verify_audit(self, *others: tuple[str, Head]) -> Audit:
        """Check all seals and their chain; `others` are heads of it that were kept elsewhere, each with its name."""
        return await self.audits.verify(*others)

    async def export_head(self) -> Head:
        """Put all seals into the chain, and return its head. Raises `StaleStatus` while another process does so."""
        await Sweep(self.engine, self.control, heads=self.heads).chain_seals()
        audit = await self.verify_audit()
        if audit.waiting:
            raise StaleStatus("another process is putting seals into the chain", hint="Try again in a moment.")
        return audit.head

    async def prune(self, days: float, *, only_count: bool) -> int:
        """Remove what ended so many days ago, but for its seals, and return how many requests that are.

        Raises `AuditBroken` for one that is not as it was sealed: that must be looked at first.
        """
        await Sweep(self.engine, self.control, heads=self.heads).chain_seals()
        async with self.store.transaction() as tx:
            found = await tx.prunable(days * 86400)
        for request_id in () if only_count else found:
            async with self.store.transaction() as tx:
                await tx.prune(request_id)
        await Sweep(self.engine, self.control, heads=self.heads).chain_seals()
        return len(found)

    async def prepare_models(self) -> None:
        """Load what the models need before a request waits for it, and log what only an operator can mend."""
        for llm in self.engine.tiers.values():
            if isinstance(llm, SdkLLM):
                try:
                    await llm.prepare()
                except NoAnswer as failure:
                    log.warning("tier %s (%s) cannot be asked: %s", llm.tier, llm.model, failure)

    async def calibrate(self) -> None:
        """Take what people made of plans so far into the confidences of the next ones, now and again and again.

        Every server does it for itself: the same rows give the same numbers, and each decomposition names them.
        """
        while True:
            try:
                rows = await self.queries.readings(JUDGED_DAYS, JUDGED_MOST)
                self.engine.trust.fits = judgements.fits(judgements.judgements(*rows))
                self.approved = judgements.approved(*rows)
            except Exception as error:
                log.warning("confidences stay as they are: %s", error, exc_info=not isinstance(error, ChargehandError))
            await asyncio.sleep(RECALIBRATE)

    async def learn_catalog(self) -> None:
        """Have the catalogue match learn what agents are granted, soon after it changes, in the background."""
        match = catalogue_match(self.engine.tiers)
        while match is not None:
            try:
                async with self.store.transaction() as tx:
                    match.prepare(await tx.catalog(), self.approved)
            except Exception as error:
                log.warning("the catalog is not learned: %s", error, exc_info=not isinstance(error, ChargehandError))
            await asyncio.sleep(LOOK_AT_CATALOG)


@asynccontextmanager
async def open_application(settings: Settings, *, upgrade_old: bool = False) -> AsyncIterator[Application]:
    """Start or reach the database, bring its schema up to date and open everything over it.

    Raises `DatabaseUnreachable`, `SchemaTooNew`, `BadConfiguration` or `DiskFull`; nothing is half-open then.
    """
    master = await asyncio.to_thread(_master_key, settings)
    dsn = settings.database_url
    if dsn is None:
        dsn = await asyncio.to_thread(start_private_postgres, settings.home)
    await migrate.ensure(dsn, upgrade_old=upgrade_old or settings.database_url is None)
    app = Application(settings, dsn, master)
    await app.store.open()
    listener = asyncio.create_task(_listen(app), name="chargehand listener")
    try:
        yield app
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        await app.queries.close()
        await app.store.close()


def _master_key(settings: Settings) -> bytes:
    try:
        folders.make_home(settings.home)
        folders.check_home(settings.home)
        return keys.master_key(settings.home / "master.key")
    except OSError as error:
        raise DiskFull(
            f"cannot write to {settings.home}: {error.strerror}",
            hint="Free some space, or set CHARGEHAND_HOME to a directory that you may write to.",
        ) from error


def start_private_postgres(home: Path) -> str:
    """Start the private PostgreSQL, or find it running, and return where it is."""
    from chargehand.private_postgres import PrivatePostgres

    return PrivatePostgres(home).start()


def needs_servers(settings: Settings) -> bool:
    """Whether servers do the work over a shared broker. Raises `BadConfiguration` for a broker's URL nobody knows."""
    return transport_of(settings.amqp_url).shared


def tiers(settings: Settings) -> Mapping[str, LLM]:
    """Return the configured models by tier. The catalogue match needs nothing and is always there.

    Raises `BadConfiguration` for half an LLM, or a key that cannot be used.
    """
    from chargehand.llm.catalogue_match import AFTER_AN_LLM, ALONE, CatalogueMatch

    models = {endpoint.tier: model(endpoint) for endpoint in settings.endpoints}
    notice = AFTER_AN_LLM if models else ALONE
    embedded = CatalogueMatch(
        settings.home / "cache", sure=settings.confidence_embedded, notice=notice, embed=settings.embed
    )
    return {**models, EMBEDDED: embedded}


def second_reader(readers: Mapping[str, LLM]) -> SecondReader | None:
    """Return who reads beside the models: the catalogue match, where it is there."""
    return catalogue_match(readers)


def catalogue_match(readers: Mapping[str, LLM]) -> CatalogueMatch | None:
    """Return the catalogue match, where it is there."""
    from chargehand.llm.catalogue_match import CatalogueMatch

    match = readers.get(EMBEDDED)
    return match if isinstance(match, CatalogueMatch) else None


def model(endpoint: Endpoint) -> ProxyLLM | SdkLLM:
    """Return what asks that LLM. Raises `BadConfiguration` for a key that cannot be read or a name that is wrong."""
    key = keys.secret(endpoint.key_file) if endpoint.key_file else None
    if endpoint.via == "litellm" or endpoint.url is None:
        return SdkLLM(endpoint.model, tier=endpoint.tier, url=endpoint.url, key=key, timeout=endpoint.timeout)
    return ProxyLLM(endpoint.url, endpoint.model, tier=endpoint.tier, key=key, timeout=endpoint.timeout)


async def _listen(app: Application) -> None:
    """Turn the database's notifications into wake-ups, for as long as the application is open."""
    silent = False
    while True:
        lost = asyncio.Event()
        try:
            close = await app.store.listen(app.wake.steps, lost.set)
            try:
                if silent:
                    log.warning("the database is listened to again")
                silent = False
                app.wake.all()
                await lost.wait()
                silent = True
            finally:
                await close()
        except ChargehandError as error:  # too many connections, a password that was changed: mended while we run
            silent = True
            log.warning("until the database can be listened to, only the clock wakes the loops: %s", error)
        await asyncio.sleep(TAKE_OVER)
