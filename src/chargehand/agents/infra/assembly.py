"""Puts the agent together: what it found, what it always can, and what runs when it is asked."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from chargehand.agent import Agent, Offer, Outcome
from chargehand.agents.infra import addresses, beneath, configuration, configure, monitor
from chargehand.agents.infra.checks import CHECKS
from chargehand.agents.infra.configure import add_configuration
from chargehand.agents.infra.discovery import Discovery, Found
from chargehand.agents.infra.environment import child_environment
from chargehand.agents.infra.inventories import Inventories
from chargehand.agents.infra.options import InfraOptions
from chargehand.agents.infra.playbooks import Runner, ansible_missing, run_playbook
from chargehand.agents.infra.scripts import run_script
from chargehand.agents.infra.snapshots import Snapshots

log = logging.getLogger("chargehand.agents.infra")

Run = Callable[..., Awaitable[Outcome]]

CHECKERS: Mapping[str, Run] = {
    "check_http": monitor.check_http,
    "check_tcp": monitor.check_tcp,
    "check_disk": monitor.check_disk,
    "check_memory": monitor.check_memory,
    "check_process": monitor.check_process,
}
REACHING = frozenset({"check_http", "check_tcp"})  # these ask an address that the request names


class InfraAgent:
    """The agent and what its offers come from. `rescan` looks for new, changed and vanished playbooks and scripts."""

    def __init__(self, options: InfraOptions) -> None:
        self.options = options
        path = child_environment(options.extra_env).get("PATH")
        self.snapshots = Snapshots(
            home=options.home,
            inventory=options.inventory,
            vars_file=options.vars_file,
            playbook_dirs=options.playbook_dirs,
            signers=options.project_signers,
        )
        self.inventories = Inventories(options.home, options.inventory, options.extra_env)
        self.discovery = Discovery(
            options.playbook_dirs,
            options.script_dirs,
            snapshots=self.snapshots,
            inventories=self.inventories,
            home=options.home,
            which=partial(shutil.which, path=path),
            ansible_missing=ansible_missing,
        )
        self.discovery.rescan()
        offers = list(self._offers())
        self.agent = Agent(
            options.name,
            agent_type="infra",
            pool=options.pool,
            slots=options.slots,
        )
        for offer in offers:
            self.agent.offer(offer.spec, offer.call, content=offer.content, difference=offer.difference)

    def rescan(self) -> bool:
        """Look again and replace the offers when anything differs; return whether it did. Reads files: it blocks.

        When it returns true, tell the runtime (`AgentRuntime.offers_changed`).
        """
        changed = self.discovery.rescan()
        if changed:
            self.agent.replace_offers(list(self._offers()))
        return changed

    def _offers(self) -> Iterator[Offer]:
        taken = {offer.spec.intent for offer in self._built_in()}
        yield from self._built_in()
        for found in self.discovery.found:
            if found.spec.intent in taken:
                log.warning("%s is not offered: %s is what this agent does by itself", found.path, found.spec.intent)
            else:
                content, difference = (
                    partial(part, found.subject) for part in (self.snapshots.hash_now, self.snapshots.difference)
                )
                yield Offer(found.spec, self._handler(found), content=content, difference=difference)

    def _built_in(self) -> Iterator[Offer]:
        for spec in CHECKS:
            checker = CHECKERS[spec.intent]
            if spec.intent in REACHING:
                checker = partial(checker, allowed=self.options.check_networks)
            yield _built_in_offer(spec, checker, monitor, addresses)
        spec = configure.SPEC
        if not self.options.config_roots:
            spec = spec.model_copy(update={"unavailable": "no directories are configured that it may edit"})
        handler = partial(add_configuration, roots=self.options.config_roots)
        yield _built_in_offer(spec, handler, configure, configuration, beneath)

    def _handler(self, found: Found) -> Run:
        if found.subject.kind == "script":
            return partial(run_script, subject=found.subject, snapshots=self.snapshots, options=self.options)
        runner = Runner(self.snapshots, self.inventories, self.options)
        return partial(run_playbook, found=found, runner=runner)


def build(options: InfraOptions) -> Agent:
    """Return an infra agent that offers what the options' directories hold at this moment."""
    return InfraAgent(options).agent


def _built_in_offer(spec: Any, handler: Run, *modules: Any) -> Offer:
    """Return the offer of something we ship; its content is our own source, so an upgrade asks for approval again."""
    sources = [Path(module.__file__).read_bytes() for module in modules]
    digest = hashlib.sha256(b"\0".join(sources)).hexdigest()
    return Offer(spec.model_copy(update={"content_hash": digest, "source": "chargehand"}), handler, content=None)
