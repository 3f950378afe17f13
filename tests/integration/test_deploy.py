"""What a deployment runs: the scripts are run, and systemd reads the units where there is one."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def test_made_secrets_agree_with_each_other_and_with_compose(tmp_path: Path) -> None:
    script = tmp_path / "deploy" / "make-secrets"
    script.parent.mkdir()
    shutil.copy2(DEPLOY / "make-secrets", script)
    subprocess.run([script], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {f"./secrets/{name}" for name in made} == {secret["file"] for secret in COMPOSE["secrets"].values()}
    database, broker = urlsplit(made["database_url"]), urlsplit(made["amqp_url"])
    assert (database.hostname, broker.hostname) == ("postgres", "rabbitmq")
    assert database.hostname in SERVICES
    assert broker.hostname in SERVICES
    environment = SERVICES["postgres"]["environment"]
    assert (database.username, database.path) == (environment["POSTGRES_USER"], f"/{environment['POSTGRES_DB']}")
    assert database.password == made["database_password"]
    assert made["rabbitmq.conf"] == f"default_user = {broker.username}\ndefault_pass = {broker.password}\n"
    assert len({database.password, broker.password}) == 2
    assert re.fullmatch("[0-9a-f]{48}", database.password or "")
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    again = subprocess.run([script], check=False, capture_output=True, text=True)
    assert again.returncode == 1
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}


def test_the_image_reads_its_secrets_from_files(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "CHARGEHAND_AMQP_URL").write_text("amqp://a:b c$(id)@h/\n")
    (secrets / "database_password").write_text("not a setting")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s|" "$CHARGEHAND_AMQP_URL" "$@"\n')
    python.chmod(0o755)
    script = (DEPLOY / "container" / "chargehand").read_text()
    assert "/run/secrets/" in script
    assert "/app/env/bin/python" in script
    script = script.replace("/run/secrets", str(secrets)).replace("/app/env/bin/python", str(python))
    run = ["sh", "-c", script, "chargehand", "run", "two words"]
    done = subprocess.run(run, check=True, capture_output=True, text=True)
    assert done.stdout == "amqp://a:b c$(id)@h/|-P|-m|chargehand|run|two words|"
    (secrets / "CHARGEHAND_DATABASE_URL").mkdir()
    assert subprocess.run(run, check=False, capture_output=True).returncode != 0, "an unreadable secret is no secret"


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze here")  # also in CI: containers have none
    text = unit.read_text()
    assert "ExecStart=/opt/chargehand/run " in text
    here = tmp_path / unit.name
    here.write_text(text.replace("/opt/chargehand/run", str(ROOT / "run")))
    done = subprocess.run([program, "verify", "--man=no", here], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_servers_unit_is_closed() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze here")
    # Ten times the exposure that it calculates; 2.0 is what it calls OK at most.
    command = [
        program,
        "security",
        "--offline=true",
        "--threshold=20",
        DEPLOY / "systemd" / "chargehand-server.service",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at a file")
    assert done.returncode == 0, done.stdout
