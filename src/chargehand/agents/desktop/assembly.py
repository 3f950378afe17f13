"""Puts the agent together: the report it always can give, and the actions its owner has listed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from chargehand.agent import Agent, Offer
from chargehand.agent.runtime import machine
from chargehand.agents.desktop import report
from chargehand.agents.desktop.automation import Automation, Listed
from chargehand.agents.desktop.options import DesktopOptions
from chargehand.agents.desktop.running import desktop_environment, run_action

log = logging.getLogger("chargehand.agents.desktop")


class DesktopAgent:
    """The agent and the list its offers come from. `rescan` reads the list again."""

    def __init__(self, options: DesktopOptions) -> None:
        self.options = options
        self.automation = Automation(options.config_dir, partial(desktop_environment, options.extra_env))
        self.automation.rescan()
        self.agent = Agent(
            options.name,
            agent_type="desktop",
            pool=options.pool,
            slots=options.slots,
        )
        self.agent.replace_offers(list(self._offers()))

    def rescan(self) -> bool:
        """Read the list again and replace the offers when anything differs; return whether it did. It blocks.

        When it returns true, tell the runtime (`AgentRuntime.offers_changed`).
        """
        changed = self.automation.rescan()
        if changed:
            self.agent.replace_offers(list(self._offers()))
        return changed

    def _offers(self) -> Iterator[Offer]:
        yield self._report()
        for listed in self.automation.listed:
            if listed.spec.intent == report.SPEC.intent:
                log.warning("%s is not taken from the list: it is what this agent does by itself", listed.spec.intent)
            else:
                yield self._listed(listed)

    def _report(self) -> Offer:
        sources = [Path(module.__file__ or "").read_bytes() for module in (report, machine)]
        digest = hashlib.sha256(b"\0".join(sources)).hexdigest()  # an upgrade asks for approval again
        spec = report.SPEC.model_copy(update={"content_hash": digest, "source": "chargehand"})
        disk = self.options.home if self.options.home.exists() else Path.home()
        return Offer(spec, partial(report.report_machine, disk=disk, problem=lambda: self.automation.problem))

    def _listed(self, listed: Listed) -> Offer:
        run = partial(run_action, automation=self.automation, extra_env=self.options.extra_env)
        return Offer(listed.spec, run, content=partial(self.automation.content_hash, listed.spec.intent))


def build(options: DesktopOptions) -> Agent:
    """Return a desktop agent that offers what the list holds at this moment."""
    return DesktopAgent(options).agent
