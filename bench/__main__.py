"""`python -m bench NAME [--quick] [--json]`: with `--json` the last line of stdout is one JSON object.

A benchmark that finds a promise broken says so under `broken`, and ends with 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from collections.abc import Mapping
from typing import Any

from chargehand.domain.errors import ChargehandError

BENCHES = {
    "calibrate": "the curve behind the confidence without an LLM, fitted anew, and tried on catalogs it has not seen",
    "chaos": "thousands of small plans while servers, agents, RabbitMQ and PostgreSQL are killed; then the accounts",
    "decompose": "requests understood against a catalog, both from files: right, asked, wrong, confidence, time",
    "fits": "the tests that fit the catalogue match anew: its shipped weights are what the fit gives",
    "fleet": "two servers and three agents as programs of their own, on a private PostgreSQL and RabbitMQ",
    "fuzz": "each parser of foreign text given texts that chance has made: no hang, no crash, no flood of memory",
    "ordering": "how far orders are from the shortest schedule, and the CPU they cost; --set FILE for PSPLIB instances",
    "path": "CPU and time per plan of three no-op tasks, in one process on a private PostgreSQL",
    "routing": "policies of choosing an agent side by side in simulated pools, and what a decision costs",
    "simulate": "simulated schedules of crashes, cuts and delays over the real engine; --seed N shows one",
    "soak": "10,000 schedules, long chaos, fuzzing and the other benchmarks, each with a bound; --only PART for some",
    "start": "what starting costs: --help, a cold and a warm PostgreSQL, a warm status",
    "tiers": "where requests end while models fail in every known way, and all at once; the longest stall meanwhile",
    "throughput": "CPU per plan over all processes, beside a loop written by hand; with --peers beside other products",
}


def main() -> int:
    """Run one benchmark and print its figures."""
    options = _options(sys.argv[1:])
    as_json, name = options.pop("json"), options.pop("name")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything private is removed
    try:
        figures: Mapping[str, Any] = importlib.import_module(f"bench.{name}").run(**options)
    except ChargehandError as error:  # no RabbitMQ on this machine, say
        print(f"{error}\n  {error.hint}", file=sys.stderr)
        return error.exit_code
    if as_json:
        print(json.dumps(figures))
    else:
        show(figures)
    return 1 if figures.get("broken") else 0


def _options(arguments: list[str]) -> dict[str, Any]:
    """Read the command line. A benchmark with options of its own has a function `add_options(parser)`."""
    parser = argparse.ArgumentParser(prog="./run bench")
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, told in BENCHES.items():
        one = names.add_parser(name, help=told, description=told)
        one.add_argument("--quick", action="store_true", help="a few seconds, for a first look; figures are rough")
        one.add_argument("--json", action="store_true", help="print one JSON object on the last line")
        if name in arguments:  # the others need not be imported
            module = importlib.import_module(f"bench.{name}")
            getattr(module, "add_options", lambda _: None)(one)
    return vars(parser.parse_args(arguments))


def show(figures: Mapping[str, Any], indent: str = "") -> None:
    """Print figures as an indented list."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            print(f"{indent}{name}:")
            show(value, indent + "  ")
        else:
            print(f"{indent}{name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
