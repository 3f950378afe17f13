"""What tests of the infra agent share: an attempt outside of a runtime, and a directory of playbooks and scripts."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import JsonValue

from chargehand.agent import Work
from chargehand.agent.runtime.lease import Lease
from chargehand.agent.runtime.progress import Feed, Said
from chargehand.agents.infra.discovery import Discovery
from chargehand.domain.messages import WorkOrder


class Heard(list[Said]):
    """Everything an attempt said, in order. Nothing is merged here: each call of `progress` is one entry."""

    async def send(self, said: Said) -> None:
        self.append(said)

    @property
    def messages(self) -> list[str]:
        return [said.message for said in self]


class ListeningFeed(Feed):
    """Passes on every word at once, so that a test need not wait for the merging."""

    def __init__(self, heard: Heard) -> None:
        super().__init__(heard.send)
        self.heard = heard

    def say(self, said: Said) -> None:
        self.heard.append(said)


def make_work(folder: Path, *, heard: Heard | None = None, **fields: Any) -> Work:
    """An attempt with a lease of a minute; `fields` are those of its order."""
    parameters: dict[str, JsonValue] = fields.pop("parameters", {})
    order = WorkOrder(
        attempt_id=uuid4(),
        task_id=uuid4(),
        lease_token=1,
        number=1,
        intent="deploy_it",
        work_type="deploy_service",
        parameters=parameters,
        content_hash=fields.pop("content_hash", ""),
        retry_safe=True,
        lease_seconds=60,
        deadline_seconds=60,
        **fields,
    )
    lease = Lease(60, asyncio.get_running_loop().time())
    return Work(order, folder / str(order.attempt_id), ListeningFeed(heard if heard is not None else Heard()), lease)


class Home:
    """A directory with playbooks and scripts, and what is found in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.playbooks, self.scripts = root / "home lab" / "playbooks", root / "home lab" / "scripts"
        self.playbooks.mkdir(parents=True)
        self.scripts.mkdir()
        self.discovery = Discovery([self.playbooks], [self.scripts], which=lambda name: name if name == "sh" else None)

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.playbooks / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def found(self) -> dict[str, Any]:
        self.discovery.rescan()
        return {item.spec.intent: item.spec for item in self.discovery.found}
