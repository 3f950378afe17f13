"""What the machine under an agent has, and what of it is free. psutil and NVML are imported when first asked."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from chargehand.domain.intents import Resources

MIB = 1024 * 1024


class Gpu(NamedTuple):
    """One GPU. Memory in MiB."""

    name: str
    total_mb: int
    free_mb: int


def total() -> Resources:
    """Return the machine's cores, memory and GPU memory."""
    return _resources(os.cpu_count() or 1, _memory().total, sum(gpu.total_mb for gpu in gpus()))


def free() -> Resources:
    """Return what is unused: cores less the load of the last minute, memory that needs no swapping."""
    idle = max(0, round((os.cpu_count() or 1) - os.getloadavg()[0]))
    return _resources(idle, _memory().available, sum(gpu.free_mb for gpu in gpus()))


def load() -> float:
    """Return the load of the last minute per core."""
    return round(os.getloadavg()[0] / (os.cpu_count() or 1), 3)


def load_averages() -> tuple[float, float, float]:
    """Return the load of the last 1, 5 and 15 minutes, of all cores together."""
    one, five, fifteen = (round(average, 2) for average in os.getloadavg())
    return one, five, fifteen


def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that NVML shows: none without its library (`nvidia-ml-py`) or its driver."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return ()
    try:
        # Counted by NVML and never ended here: where nothing else uses the GPU, waking its driver takes a second.
        nvml.nvmlInit()
        return tuple(_gpus(nvml, nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError:
        return ()


def _gpus(nvml: Any, count: int) -> Iterator[Gpu]:
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory, name = nvml.nvmlDeviceGetMemoryInfo(handle), nvml.nvmlDeviceGetName(handle)
        except nvml.NVMLError:
            continue  # fallen off the bus, or it shares the machine's memory; the others still count
        yield Gpu(name.decode() if isinstance(name, bytes) else name, memory.total // MIB, memory.free // MIB)


@dataclass(frozen=True, slots=True)
class Gauges:
    """Where an agent reads what its machine has, what of it is free, and the load per core."""

    total: Callable[[], Resources] = total
    free: Callable[[], Resources] = free
    load: Callable[[], float] = load


HERE = Gauges()
"""This machine's."""


def _resources(cores: int, memory: int, vram_mb: int) -> Resources:
    return Resources(estimated_duration_seconds=0, cpu_cores=cores, memory_mb=memory // MIB, gpu_vram_mb=vram_mb)


def _memory() -> Any:
    import psutil

    return psutil.virtual_memory()
