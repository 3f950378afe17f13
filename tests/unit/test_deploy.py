"""compose.yaml and the image fit the program, also where no engine can run them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from chargehand.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
KNOWN = {f"CHARGEHAND_{name.upper()}" for name in Settings.model_fields}
KNOWN |= {"CHARGEHAND_AGENT_HOME", "CHARGEHAND_AGENT_HEALTH_PORT"}  # an agent's own
PINNED = re.compile(r"chargehand:\d+\.\d+\.\d+|[a-z]+:\d+\.\d+(\.\d+)?(-[a-z0-9-]+)?@sha256:[0-9a-f]{64}")


@pytest.mark.parametrize(
    "path", [ROOT / "compose.yaml", ROOT / "Dockerfile", DEPLOY / "make-secrets", *UNITS], ids=lambda path: path.name
)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    assert set(re.findall(r"\bCHARGEHAND_[A-Z0-9_]*[A-Z0-9]\b", path.read_text())) <= KNOWN


def test_the_parts_are_there() -> None:
    assert set(SERVICES) == {"postgres", "rabbitmq", "migrate", "server", "agent"}
    assert SERVICES["migrate"]["command"] == ["db", "upgrade"]
    assert SERVICES["server"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_and_pinned(name: str) -> None:
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"])
    assert service["user"] not in ("root", "0", 0)
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "cap_add"} & service.keys()


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"migrate"}))
def test_a_service_that_goes_on_is_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"].keys() == {"test", "interval", "timeout", "retries", "start_period"}
    assert service["healthcheck"]["test"][0] == "CMD"


def test_nothing_listens_beyond_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:${BROKER_PORT:-5672}:5672"]
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert SERVICES["agent"]["networks"] == ["broker"]
    assert SERVICES["postgres"]["networks"] == ["database"]


def test_every_volume_network_and_secret_is_declared_and_used() -> None:
    used: dict[str, set[str]] = {"volumes": set(), "networks": set(), "secrets": set()}
    for service in SERVICES.values():
        named = [volume.partition(":")[0] for volume in service.get("volumes", [])]
        used["volumes"] |= {name for name in named if name.isidentifier()}
        used["networks"] |= set(service["networks"])
        used["secrets"] |= {secret if isinstance(secret, str) else secret["source"] for secret in service["secrets"]}
    assert used == {kind: set(COMPOSE[kind]) for kind in used}


def test_no_secret_stands_in_the_file() -> None:
    for service in SERVICES.values():
        given = service.get("environment", {})
        assert not [name for name in given if re.search("PASSWORD$|URL$|KEY$|TOKEN$", name)]
    targets = {s["target"] for service in SERVICES.values() for s in service["secrets"] if isinstance(s, dict)}
    assert {name for name in targets if not name.startswith("/")} <= KNOWN


def test_the_image_is_built_from_the_lock_alone() -> None:
    assert "--require-hashes --no-deps --only-binary :all:" in " ".join(DOCKERFILE.replace("\\\n", " ").split())
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(set(bases)) == 1
    assert PINNED.fullmatch(bases[0])
    copied = re.findall(r"^COPY (?:--chmod=\S+ )?(?!--)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all(any(Path(name).is_relative_to(place) for place in allowed) for name in copied)
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE) == ["chargehand"]


def test_the_bill_of_materials_lists_every_wheel_of_the_lock() -> None:
    made = subprocess.run([sys.executable, ROOT / "deploy/sbom.py"], capture_output=True, text=True, check=True).stdout
    bill = json.loads(made)
    listed = {(each["name"], each["version"]) for each in bill["components"]}
    assert listed == set(re.findall(r"^(\S+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert all(each["hashes"] for each in bill["components"])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    again = subprocess.run([sys.executable, ROOT / "deploy/sbom.py"], capture_output=True, text=True, check=True).stdout
    assert again == made
