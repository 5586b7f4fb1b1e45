"""Which board this is, what runs on it, and in which state it measures."""

import glob
import os
import platform
import re
import shutil
import subprocess
from typing import Any, Dict, List, Optional, Sequence

from .errors import KitError
from .tegrastats import parse

ROOT = "/"  # tests set another


def read(path: str) -> Optional[str]:
    """A small file's text without its end, None where it cannot be read."""
    try:
        with open(os.path.join(ROOT, path.lstrip("/")), "rb") as file:
            return file.read(65536).decode("utf-8", "replace").rstrip("\0\n ")
    except OSError:
        return None


def find(pattern: str) -> List[str]:
    """Paths under ROOT that match, as `read` takes them."""
    base = os.path.join(ROOT, pattern.lstrip("/"))
    return sorted("/" + os.path.relpath(path, ROOT) for path in glob.glob(base))


def command(words: Sequence[str], seconds: float = 5.0) -> Optional[str]:
    """What a program prints, None where it is missing, fails or hangs."""
    if shutil.which(words[0]) is None:
        return None
    try:
        run = subprocess.run(list(words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds, universal_newlines=True)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def l4t() -> Optional[str]:
    """`# R36 (release), REVISION: 4.3, ...` → 36.4.3."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", read("/etc/nv_tegra_release") or "")
    return "{}.{}".format(found.group(1), found.group(2)) if found else None


def model() -> Optional[str]:
    """The board's name in its device tree."""
    return read("/proc/device-tree/model")


def memory() -> Dict[str, int]:
    """total and available bytes; raises KitError where the kernel does not say."""
    listed = re.findall(r"^(\w+):\s+(\d+) kB", read("/proc/meminfo") or "", re.MULTILINE)
    fields = {name: int(kilobytes) * 1024 for name, kilobytes in listed}
    if "MemTotal" not in fields:
        raise KitError("/proc/meminfo cannot be read: this is no Linux board.")
    return {"total": fields["MemTotal"], "available": fields.get("MemAvailable", fields["MemTotal"])}


def power_mode() -> Optional[str]:
    """nvpmodel's mode, such as MAXN."""
    found = re.search(r"NV Power Mode: *(\S+)", command(["nvpmodel", "-q"]) or "")
    return found.group(1) if found else None


def temperatures() -> Dict[str, float]:
    """C by thermal zone; zones that are switched off are left out."""
    found = {}
    for zone in find("/sys/class/thermal/thermal_zone*"):
        name, value = read(zone + "/type"), read(zone + "/temp")
        if name and value and value.lstrip("-").isdigit() and int(value) > -256000:
            found[name] = int(value) / 1000.0
    return found


def cooling() -> Dict[str, int]:
    """Cooling devices that hold a clock back, by kind and state: what throttles. Fans are no throttling."""
    found = {}
    for device in find("/sys/class/thermal/cooling_device*"):
        kind, state = read(device + "/type"), read(device + "/cur_state")
        if kind and state and state.isdigit() and int(state) > 0 and "fan" not in kind.lower():
            found[kind] = int(state)
    return found


def gpu_clock() -> Optional[int]:
    """Hz of the GPU now: its devfreq device's name ends as its compatible says."""
    for path in find("/sys/class/devfreq/*"):
        if re.search(r"gp10b|gv11b|ga10b|gb10b|gm20b|57000000.gpu|\.gpu$|gpu-gpc", os.path.basename(path)):
            value = read(path + "/cur_freq")
            if value and value.isdigit():
                return int(value)
    return None


def identity(tensorrt_version: Optional[str] = None, capability: Optional[str] = None) -> Dict[str, Any]:
    """What a measurement says of where it was made; None for what this board does not tell."""
    return {
        "board": model(),
        "l4t": l4t(),
        "tensorrt": tensorrt_version,
        "compute_capability": capability,
        "power_mode": power_mode(),
        "memory_bytes": memory()["total"],
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": "{} {}".format(platform.system(), platform.release()),
        "python": platform.python_version(),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_average_1min": os.getloadavg()[0],
    }


def rails() -> Dict[str, int]:
    """Present power in mW by rail, from the INA3221 sensors; empty where none can be read.

    JetPack 4: iio devices with rail_name_N and in_powerN_input (mW). Later: hwmon with inN_label, inN_input (mV) and currN_input (mA);
    the fourth channel there sums others and is left out.
    """
    found = {}  # type: Dict[str, int]
    for name in find("/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"):
        power = read(os.path.join(os.path.dirname(name), "in_power{}_input".format(name.rsplit("_", 1)[1])))
        _add(found, read(name), power)
    for label in find("/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in[123]_label"):
        folder, channel = os.path.dirname(label), os.path.basename(label)[2]
        volts, amperes = read(folder + "/in{}_input".format(channel)), read(folder + "/curr{}_input".format(channel))
        if volts and amperes and volts.isdigit() and amperes.isdigit():
            _add(found, read(label), str(int(volts) * int(amperes) // 1000))
    for chip in find("/sys/class/hwmon/hwmon*"):  # Thor's input is on an INA238, which gives microwatts
        power = read(chip + "/power1_input")
        if (read(chip + "/name") or "").startswith("ina2") and power and power.isdigit():
            _add(found, read(chip + "/in1_label") or read(chip + "/power1_label") or "VIN", str(int(power) // 1000))
    return found


def _add(found: Dict[str, int], name: Optional[str], power: Optional[str]) -> None:
    if name and name != "NC" and power and power.lstrip("-").isdigit():
        found[name] = int(power)


def tegrastats_rails(interval_ms: int = 100) -> Optional["subprocess.Popen[str]"]:
    """A running tegrastats, one line an interval; None where the board has none."""
    if shutil.which("tegrastats") is None:
        return None
    try:
        return subprocess.Popen(
            ["tegrastats", "--interval", str(interval_ms)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True
        )
    except OSError:
        return None


def line_rails(line: str) -> Dict[str, int]:
    """The rails of one tegrastats line."""
    found = parse(line)["rails"]  # type: Dict[str, int]
    return found
