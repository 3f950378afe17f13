"""`report_machine`: how the machine is doing. Looks, and changes nothing."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable
from pathlib import Path

import psutil
from pydantic import JsonValue

from chargehand.agent import Outcome, Work
from chargehand.agent.runtime import machine
from chargehand.domain.intents import IntentSpec, Resources
from chargehand.domain.risks import Risk

SPEC = IntentSpec(
    intent="report_machine",
    work_type="monitor_system",
    agent_type="desktop",
    description="Report the machine's cores, load, memory, disk and GPU memory",
    examples=(
        "how is my desktop doing",
        "report the machine",
        "show the load of the desktop",
        "how busy is this computer",
        "how much GPU memory is free on the desktop",
        "show cores, memory and disk of my machine",
        "what are the load averages",
        "is the workstation busy",
    ),
    parameters={"type": "object", "properties": {}, "additionalProperties": False},
    resources=Resources(estimated_duration_seconds=2, cpu_cores=1, memory_mb=32),
    risk=Risk.READ,
    retry_safe=True,
    dry_run=True,  # looking changes nothing, so the dry run is the run
)


async def report_machine(work: Work, *, disk: Path, problem: Callable[[], str | None]) -> Outcome:
    """Report the machine as it is now; `disk` is a path on the disk of interest, `problem` what is wrong with the
    list of actions. Memory and disk in MiB, load averages of all cores together."""
    outputs = await asyncio.to_thread(look, disk)  # a network disk or a sleeping GPU may take its time
    if (wrong := problem()) is not None:
        outputs["automation_problem"] = wrong
    return Outcome(_summary(outputs), changed=False, outputs=outputs)


def look(disk: Path) -> dict[str, JsonValue]:
    """Return what there is to say about the machine. Blocks."""
    memory, space = psutil.virtual_memory(), psutil.disk_usage(str(disk))
    gpus = machine.gpus()
    return {
        "host": platform.node(),
        "cores": os.cpu_count() or 1,
        "load_averages": list(machine.load_averages()),
        "memory_total_mb": memory.total // machine.MIB,
        "memory_free_mb": memory.available // machine.MIB,
        "disk_path": str(disk),
        "disk_total_mb": space.total // machine.MIB,
        "disk_free_mb": space.free // machine.MIB,
        "gpu_vram_total_mb": sum(gpu.total_mb for gpu in gpus),
        "gpu_vram_free_mb": sum(gpu.free_mb for gpu in gpus),
        "gpus": [gpu._asdict() for gpu in gpus],
    }


def _summary(seen: dict[str, JsonValue]) -> str:
    loads = seen["load_averages"]
    assert isinstance(loads, list)
    parts = [
        f"{seen['host']}: {seen['cores']} cores, load {' '.join(f'{average:.2f}' for average in loads)}",
        f"{seen['memory_free_mb']:,} of {seen['memory_total_mb']:,} MiB memory free",
        f"{seen['disk_free_mb']:,} of {seen['disk_total_mb']:,} MiB disk free",
    ]
    if seen["gpus"]:
        parts.append(f"{seen['gpu_vram_free_mb']:,} of {seen['gpu_vram_total_mb']:,} MiB GPU memory free")
    return "; ".join(parts)
