"""Talks to Uptime Kuma: makes its administrator, adds portals. Needs uptime-kuma-api; the playbooks make a venv for it.

    kuma.py admin --url http://127.0.0.1:3001/ --admin admin.json
    kuma.py portals --url ... --admin admin.json --page portals [--dry-run] < {"Wiki": {"url": "http://127.0.0.1:8080/"}}

Prints {"changed": true, "did": ["added Wiki"]}. The administrator's password is made here, is written to a file that
only its owner can read, and goes nowhere else: Ansible never sees it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from uptime_kuma_api import MonitorStatus, MonitorType, UptimeKumaApi, UptimeKumaException

INTERVAL = 20  # seconds between two probes: the least that Kuma allows
PATIENCE = 2 * INTERVAL + 10  # a portal that was down is seen up by the second probe at the latest
GROUP = "Portals"
CALL_SECONDS = 30.0  # Kuma answers in milliseconds, but its first start on a slow disk is busy


class Refused(Exception):
    """It cannot be done; the message says why and what to do."""


def make_admin(api: UptimeKumaApi, secret: Path) -> list[str]:
    """Make the administrator unless there is one: a Kuma without belongs to whoever opens it first."""
    if not api.need_setup():
        return []
    if not secret.exists():  # else an earlier run ended between the file and Kuma
        fd = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump({"username": "admin", "password": f"{secrets.token_urlsafe(18)}-a1"}, file)  # Kuma wants a digit
    api.setup(**json.loads(secret.read_text()))
    return ["made the administrator"]


def log_in(api: UptimeKumaApi, secret: Path) -> None:
    """Log in. Raises Refused saying what to write where."""
    form = '{"username": "...", "password": "..."}'
    if not secret.exists():
        raise Refused(f"Kuma has an administrator, but there is no {secret}. Write {form} into it, for you only.")
    try:
        answer = api.login(**json.loads(secret.read_text()))
    except UptimeKumaException as error:
        raise Refused(
            f"Kuma refuses the login in {secret} ({error}). If you changed it in Kuma, write the new one there."
        ) from error
    if "token" not in answer:
        raise Refused(f"Kuma asks for a second factor for the user in {secret}. Turn it off for that user.")


def add_portals(api: UptimeKumaApi, portals: dict[str, Any], page: str, dry_run: bool) -> list[str]:
    """Make Kuma watch each portal and show it on one page. What is there besides stays."""
    have = monitors(api)
    did = []
    for name, portal in portals.items():
        wanted = settings(portal)
        if name not in have:
            did.append(f"added {name}")
            if not dry_run:
                api.add_monitor(type=MonitorType.HTTP, name=name, interval=INTERVAL, retryInterval=INTERVAL, **wanted)
        elif any(have[name][key] != value for key, value in wanted.items()):
            did.append(f"changed {name}")
            if not dry_run:
                api.edit_monitor(have[name]["id"], **wanted)
    if dry_run:
        return did
    have = monitors(api)
    return did + show(api, page, [have[name]["id"] for name in portals])


def monitors(api: UptimeKumaApi) -> dict[str, dict[str, Any]]:
    """Return Kuma's HTTP monitors by name."""
    return {monitor["name"]: monitor for monitor in api.get_monitors() if monitor["type"] == MonitorType.HTTP}


def settings(portal: dict[str, Any]) -> dict[str, Any]:
    """Return what portals.yml says of a portal in Kuma's words."""
    accepted = ["200-299", "300-399", *(str(status) for status in portal.get("accept", ()))]
    ignore_tls = not portal.get("verify_tls", True)
    return {"url": portal["url"], "accepted_statuscodes": accepted, "ignoreTls": ignore_tls}


def show(api: UptimeKumaApi, page: str, ids: list[int]) -> list[str]:
    """Put monitors on the public page unless they are there."""
    if page not in {known["slug"] for known in api.get_status_pages()}:
        api.add_status_page(page, "Homelab")
    groups = api.get_status_page(page)["publicGroupList"]
    shown = {monitor["id"] for group in groups for monitor in group["monitorList"]}
    missing = [{"id": number} for number in ids if number not in shown]
    if not missing:
        return []
    ours = next((group for group in groups if group["name"] == GROUP), None)
    if ours is None:
        ours = {"name": GROUP, "weight": len(groups) + 1, "monitorList": []}
        groups.append(ours)
    ours["monitorList"].extend(missing)
    api.save_status_page(page, publicGroupList=groups)
    return [f"put {len(missing)} on the page {page}"]


def await_up(api: UptimeKumaApi, names: list[str], url: str) -> None:
    """Wait until Kuma has seen each up. Raises Refused naming those that it has not."""
    end = time.monotonic() + PATIENCE
    while late := not_up(api, names):
        if time.monotonic() > end:
            words = "; ".join(f"{name}: {why}" for name, why in late.items())
            raise Refused(f"The portals are in Kuma, but not all are up: {words}. See {url}")
        time.sleep(0.5)


def not_up(api: UptimeKumaApi, names: list[str]) -> dict[str, str]:
    """Return why Kuma does not say up, by name."""
    known, beats = monitors(api), api.get_heartbeats()
    late = {}
    for name in names:
        last = (beats.get(known[name]["id"]) or [{"status": None, "msg": "not probed yet"}])[-1]
        if last["status"] != MonitorStatus.UP:
            late[name] = last["msg"] if known[name]["active"] else "is paused in Kuma"
    return late


def main(argv: list[str]) -> int:
    """Do what the first lines of this file say."""
    parser = argparse.ArgumentParser(prog="kuma.py")
    parser.add_argument("verb", choices=("admin", "portals"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--admin", type=Path, required=True)
    parser.add_argument("--page", default="portals")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(argv)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # Kuma is on this machine, where no proxy finds it
    with UptimeKumaApi(options.url, timeout=CALL_SECONDS) as api:
        if options.verb == "admin":
            did = make_admin(api, options.admin)
        else:
            portals = json.load(sys.stdin)
            log_in(api, options.admin)
            did = add_portals(api, portals, options.page, options.dry_run)
            if not options.dry_run:
                await_up(api, list(portals), options.url)
    print(json.dumps({"changed": bool(did), "did": did}))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Refused, UptimeKumaException) as error:
        sys.exit(f"Kuma: {error}" if isinstance(error, UptimeKumaException) else str(error))
