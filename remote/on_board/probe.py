"""python3 probe.py: what this machine is, as one JSON object; null for what it does not tell."""

import ctypes
import json
import os
import platform
import re
import subprocess
import sys


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read(65536).decode("utf-8", "replace").rstrip("\0\n ")
    except OSError:
        return None


def tensorrt_version():
    try:
        code = "import tensorrt; print(tensorrt.__version__)"
        run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, universal_newlines=True)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None


def compute_capability():
    for name in (
        "libcudart.so",
        "libcudart.so.13",
        "libcudart.so.12",
        "libcudart.so.11.0",
        "libcudart.so.10.2",
        "/usr/local/cuda/lib64/libcudart.so",
    ):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        major, minor = ctypes.c_int(), ctypes.c_int()
        failed = library.cudaDeviceGetAttribute(ctypes.byref(major), 75, 0) or library.cudaDeviceGetAttribute(ctypes.byref(minor), 76, 0)
        return None if failed else "{}.{}".format(major.value, minor.value)
    return None


def main():
    cpuinfo = read("/proc/cpuinfo") or ""
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"MemTotal:\s+(\d+) kB", read("/proc/meminfo") or "")
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", read("/etc/nv_tegra_release") or "")
    found = {
        "hostname": platform.node(),
        "board": read("/proc/device-tree/model"),
        "cpu": model.group(1) if model else None,
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "isa": flags.group(1).split() if flags else [],
        "memory_bytes": int(memory.group(1)) * 1024 if memory else None,
        "python": platform.python_version(),
        "system": "{} {}".format(platform.system(), platform.release()),
        "l4t": "{}.{}".format(release.group(1), release.group(2)) if release else None,
    }
    if release:
        found["tensorrt"] = tensorrt_version()
        found["compute_capability"] = compute_capability()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
