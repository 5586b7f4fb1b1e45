"""One line of tegrastats, whose form differs by board and JetPack. Fields: docs.nvidia.com, Jetson Linux developer guide, "tegrastats utility"."""

import re
from typing import Any, Dict, List, Optional

ABSENT = -256.0  # what the kernel gives for a sensor that is switched off
RAIL = re.compile(r"(?<![\w@])([A-Z][A-Z0-9_]+) (-?\d+)(?:mW)?/(-?\d+)(?:mW)?(?:/(-?\d+)(?:mW)?)?(?![\w(])")
RAIL_ALONE = re.compile(r"(?<![\w@])([A-Z][A-Z0-9_]+) (-?\d+)mW(?![/\w])")
TEMPERATURE = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)@(-?\d+(?:\.\d+)?)C")
NOT_RAILS = ("RAM", "SWAP", "IRAM", "NC")  # NC: an input of the sensor that is not connected


def parse(line: str) -> Dict[str, Any]:
    """ram_mb, swap_mb: (used, total); cpu: [(load %, MHz) or None for a core switched off]; gpu_load in % (None where the board does not tell,
    as Thor), gpu_mhz: one clock a cluster; temperatures in C, absent sensors left out; rails: present power in mW by rail.
    """
    return {
        "ram_mb": _pair(r"(?<!I)\bRAM (\d+)/(\d+)MB", line),
        "swap_mb": _pair(r"\bSWAP (\d+)/(\d+)MB", line),
        "cpu": _cores(line),
        "gpu_load": _gpu_load(line),
        "gpu_mhz": _gpu_clocks(line),
        "temperatures": {name: float(value) for name, value in TEMPERATURE.findall(line) if float(value) > ABSENT},
        "rails": _rails(line),
    }


def _pair(pattern: str, line: str) -> Optional[List[int]]:
    found = re.search(pattern, line)
    return [int(found.group(1)), int(found.group(2))] if found else None


def _cores(line: str) -> List[Optional[List[Optional[int]]]]:
    found = re.search(r"\bCPU \[([^\]]*)\](?:@(\d+))?", line)
    if not found:
        return []
    cores = []  # type: List[Optional[List[Optional[int]]]]
    for core in found.group(1).split(","):
        match = re.match(r"\s*(\d+)%(?:@(\d+))?", core)
        clock = match.group(2) or found.group(2) if match else None
        cores.append([int(match.group(1)), int(clock) if clock else None] if match else None)
    return cores


def _gpu_load(line: str) -> Optional[int]:
    found = re.search(r"\bGR3D_FREQ (\d+)%", line)
    return int(found.group(1)) if found else None


def _gpu_clocks(line: str) -> List[int]:
    """GR3D_FREQ 12%@306, 12%@[1300,1300], @[314,314,314], or 12% alone; older Orins add GR3D2_FREQ."""
    clocks = []  # type: List[int]
    for listed in re.findall(r"\bGR3D2?_FREQ (?:\d+%)?@\[?([\d,]+)", line):
        clocks += [int(clock) for clock in listed.split(",") if clock]
    return clocks


def _rails(line: str) -> Dict[str, int]:
    """`VDD_IN 4824mW/4824mW`, three parts from JetPack 7 on, no unit on older boards: the first is the present value, in mW."""
    found = [(match[0], match[1]) for match in RAIL.findall(line)] + RAIL_ALONE.findall(line)
    return {name: int(value) for name, value in found if name not in NOT_RAILS}
