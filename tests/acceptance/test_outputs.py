"""*Deploy Kuma and add our portals to its config*, as people do it: two scripts, and no value in the words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command import Command
from tests.postgres import require_postgres, throwaway_home

SENTENCE = "deploy Kuma and add our portals to its config"
DEPLOY = """\
#!/bin/sh
# chargehand:
#   intent: deploy_kuma
#   service: kuma
#   description: Deploy Kuma
#   examples: [deploy Kuma, install Kuma, set up Kuma, bring up Kuma, roll out Kuma, get Kuma running]
#   outputs:
#     url: {{type: string, minLength: 8, description: Where it answers}}
#   retry_safe: true
echo x >> {out}/deployed
cat {out}/answer > "$CHARGEHAND_OUTPUT_FILE"
"""
ADD = """\
#!/bin/sh
# chargehand:
#   intent: add_portals
#   service: kuma
#   description: Add our portals to Kuma
#   examples: [add our portals to Kuma, add our portals to its config, put the portals into Kuma,
#     register our portals with Kuma, configure Kuma with our portals, let Kuma watch the portals]
#   parameters:
#     kuma_url: {{type: string, required: true, description: Where Kuma answers}}
#   retry_safe: true
printf %s "$CHARGEHAND_KUMA_URL" > {out}/added
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[Command]:
    require_postgres()
    with throwaway_home("o") as home:
        scripts, out = home.parent / "s", home.parent / "out"
        for folder in (scripts, out):
            folder.mkdir(mode=0o755)
        for name, text in (("deploy_kuma.sh", DEPLOY), ("add_portals.sh", ADD)):
            (scripts / name).write_text(text.format(out=out))
            (scripts / name).chmod(0o755)
        yield Command(home, home.parent / "none", CHARGEHAND_SCRIPTS=str(scripts))


def out(cli: Command) -> Path:
    return cli.home.parent / "out"


def answering(cli: Command, **outputs: Any) -> None:
    """Have the first script return this."""
    (out(cli) / "answer").write_text(json.dumps({"summary": "Kuma is there", **outputs}))
    (out(cli) / "added").unlink(missing_ok=True)


def test_the_second_step_gets_what_the_first_one_returned(cli: Command) -> None:
    answering(cli, url="http://127.0.0.1:3001/$(touch /tmp/x); `id` {{ 7 * 7 }}")
    ended = cli("run", "--yes", "--json", SENTENCE)
    assert ended.code == 0, ended.out + ended.err
    value = ended.value
    url = "http://127.0.0.1:3001/$(touch /tmp/x); `id` {{ 7 * 7 }}"
    assert (out(cli) / "added").read_text() == url
    second = value["plan"]["tasks"][1]
    assert (second["parameters"], second["inputs"]) == ({}, {"kuma_url": {"task": 1, "output": "url"}})
    where = {"task": 1, "output": "url", "intent": "deploy_kuma"}
    assert value["tasks"][1]["inputs"] == {"kuma_url": {**where, "value": url}}
    told = cli("why", value["request_id"]).out
    assert "kuma_url for “add our portals to its config” is what “deploy Kuma” returns as url" in told
    assert f'kuma_url = "{url}" (output url of task 1)' in told


def test_what_is_not_returned_goes_to_a_person_who_does_it_by_hand(cli: Command) -> None:
    answering(cli, address="http://127.0.0.1:3001/")
    deployed = len((out(cli) / "deployed").read_text().splitlines())
    ended = cli("run", "--yes", "--key", "missing", SENTENCE)
    assert ended.code == 3, ended.out + ended.err
    assert (
        "task 1 (deploy_kuma) returned no url, which task 2 needs as kuma_url; nothing of this task was run"
        in ended.out
    )
    assert not (out(cli) / "added").exists()
    reviews = cli("reviews", "--json").value["reviews"]
    request_id = next(r["request_id"] for r in reviews if r["kind"] == "missing_output")
    shown = cli("status", request_id).out
    assert "its outputs differ from its declaration: url is missing" in shown
    assert "--done" in shown
    assert cli("retry", request_id, "--done").code == 0
    again = cli("run", "--yes", "--key", "missing", SENTENCE)
    assert again.code == 0, again.out + again.err
    assert len((out(cli) / "deployed").read_text().splitlines()) == deployed + 1


def test_the_catalog_says_what_is_returned(cli: Command) -> None:
    assert "returns url: Where it answers" in cli("catalog").out
