"""The machine that a measurement came from."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
MODEL = Path("/proc/device-tree/model")
CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
# ARM part numbers, from the Linux kernel's arch/arm64/include/asm/cputype.h.
ARM_PARTS = {"0xd03": "Cortex-A53", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd0b": "Cortex-A76", "0xd42": "Cortex-A78AE", "0x004": "Carmel"}


def machine() -> dict[str, Any]:
    """CPU, memory, governor, clock, load, system and engine versions; None for what this system does not tell."""
    import onnxruntime
    import psutil

    return {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "isa": [flag for flag in isa_flags() if flag.startswith(("avx", "asimd", "amx", "i8mm", "sve", "bf16", "fma"))],
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "governor": _read(CPUFREQ / "scaling_governor"),
        "frequency_khz": _integer(CPUFREQ / "scaling_cur_freq"),
        "load_average_1min": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def cpu_model() -> str:
    """The CPU's name; on ARM, where cpuinfo has none, the board's and the core's."""
    fields = _cpuinfo()
    if "model name" in fields:
        return fields["model name"]
    part = fields.get("CPU part", "")
    core = ARM_PARTS.get(part, f"ARM part {part}" if part else platform.machine())
    board = _read(MODEL)
    return f"{board} ({core})" if board else core


@cache
def isa_flags() -> tuple[str, ...]:
    """Instruction-set features as the Linux kernel names them; empty where it does not say."""
    fields = _cpuinfo()
    return tuple((fields.get("flags") or fields.get("Features") or "").split())


@cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's fields of /proc/cpuinfo."""
    fields: dict[str, str] = {}
    try:
        with CPUINFO.open() as lines:
            for line in lines:
                key, separator, value = line.partition(":")
                if separator:
                    fields.setdefault(key.strip(), value.strip())
                elif fields:
                    break
    except OSError:
        pass
    return fields


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip().rstrip("\0")
    except OSError:
        return None


def _integer(path: Path) -> int | None:
    text = _read(path)
    return int(text) if text and text.isdigit() else None
