"""The offers of `monitor_system`. Pure: a table of intents, their words and their parameters."""

from __future__ import annotations

from pydantic import JsonValue

from chargehand.domain.intents import IntentSpec, Resources
from chargehand.domain.risks import Risk

_TIMEOUT: JsonValue = {"type": "integer", "minimum": 1, "maximum": 60, "description": "Seconds to wait for an answer"}
_PERCENT: JsonValue = {"type": "number", "minimum": 0, "maximum": 100, "default": 10, "description": "Enough free"}
_PORT: JsonValue = {"type": "integer", "minimum": 1, "maximum": 65535, "description": "TCP port"}
_URL: JsonValue = {"type": "string", "pattern": "^https?://[^\\s]+$", "description": "http:// or https:// address"}
_STATUS: JsonValue = {"type": "integer", "minimum": 100, "maximum": 599, "default": 200, "description": "HTTP status"}
_HOST: JsonValue = {"type": "string", "minLength": 1, "maxLength": 253, "description": "Name or address"}
_PATH: JsonValue = {"type": "string", "minLength": 1, "default": "/", "description": "A directory on the disk"}
_NAME: JsonValue = {"type": "string", "minLength": 1, "description": "Name of the program"}
_CONTAINS: JsonValue = {"type": "string", "minLength": 1, "description": "Text that must be in the answer"}


def _check(
    intent: str,
    description: str,
    examples: tuple[str, ...],
    properties: dict[str, JsonValue],
    required: tuple[str, ...] = (),
) -> IntentSpec:
    return IntentSpec(
        intent=intent,
        work_type="monitor_system",
        description=description,
        examples=examples,
        parameters={
            "type": "object",
            "properties": properties,
            "required": list(required),
            "additionalProperties": False,
        },
        resources=Resources(estimated_duration_seconds=2, cpu_cores=1, memory_mb=32),
        risk=Risk.READ,
        retry_safe=True,
        dry_run=True,  # looking changes nothing, so the dry run is the run
    )


CHECKS: tuple[IntentSpec, ...] = (
    _check(
        "check_http",
        "Ask a web address and see whether it answers as it should",
        (
            "check that {url} answers",
            "is {url} up",
            "is the website {url} reachable",
            "see if {url} is online",
            "check that {url} returns {expect_status}",
            "does {url} contain {contains}",
            "make sure {url} responds",
            "ping the site {url}",
        ),
        {"url": _URL, "expect_status": _STATUS, "contains": _CONTAINS, "timeout_seconds": _TIMEOUT},
        ("url",),
    ),
    _check(
        "check_tcp",
        "See whether a port accepts connections",
        (
            "check port {port} on {host}",
            "is port {port} open on {host}",
            "can we connect to {host} port {port}",
            "see if {host}:{port} accepts connections",
            "is {host} listening on {port}",
            "test the connection to {host}:{port}",
        ),
        {"host": _HOST, "port": _PORT, "timeout_seconds": _TIMEOUT},
        ("host", "port"),
    ),
    _check(
        "check_disk",
        "See how much disk space is free",
        (
            "is the disk full",
            "check the disk space",
            "how much disk space is left",
            "how full is {path}",
            "is there enough space on {path}",
            "check that {path} has {min_free_percent} percent free",
            "are we running out of disk space",
            "check free storage",
        ),
        {"path": _PATH, "min_free_percent": _PERCENT},
    ),
    _check(
        "check_memory",
        "See how much memory is free",
        (
            "how much memory is free",
            "check the memory",
            "is there enough RAM",
            "check memory usage",
            "are we running out of memory",
            "check that {min_free_percent} percent of memory is free",
            "how much RAM is left",
        ),
        {"min_free_percent": _PERCENT},
    ),
    _check(
        "check_process",
        "See whether a program is running",
        (
            "is {name} running",
            "check that {name} is running",
            "is the process {name} alive",
            "see if the {name} process is up",
            "check the process {name}",
            "how many {name} processes are there",
        ),
        {"name": _NAME},
        ("name",),
    ),
)
