"""`devices --probe`: the devices.yaml entry of a board nobody described yet, from what it says of itself."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from ..devices import catalogue
from ..errors import InputError
from .connection import SCRIPTS, Address, Board, Say, on_board

KERNELS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "sve", "bf16", "asimdhp")
SOURCE = "probe"


def probe(host: str, say: Say = lambda _: None) -> dict[str, Any]:
    """A devices file with one entry: what EDGEATTN_DEVICES may name. Raises MissingError for what the board or the way to it lacks."""
    address = Address.parse(host)

    async def work(board: Board) -> dict[str, Any]:
        await board.python()
        return await board.answer(["python3", "-c", (SCRIPTS / "probe.py").read_text()])

    return devices_file(on_board(address, work, say), str(address))


def devices_file(found: dict[str, Any], host: str) -> dict[str, Any]:
    """The file's content for what `on_board/probe.py` printed."""
    jetson = found["l4t"] is not None
    name = _name(found["board"] or found["hostname"] or host)
    isa = [feature for feature in KERNELS if feature in found["isa"]]
    entry: dict[str, Any] = {
        "target": "jetson" if jetson else "cpu",
        "description": ", ".join(part for part in (found["board"], found["cpu"], found["system"]) if part),
        "cores": found["cores"],
        "isa": isa,
        "formats": _jetson_formats(found.get("compute_capability")) if jetson else _cpu_formats(isa),
    }
    if found["memory_bytes"]:
        entry["memory_bytes"] = {"value": found["memory_bytes"], "source": SOURCE}
    if jetson:
        entry["software"] = [_software(found)]
        if found.get("compute_capability"):
            entry["extra"] = {"compute_capability": {"value": float(found["compute_capability"]), "source": SOURCE}}
    return {
        "schema": 1,
        "sources": {SOURCE: f"read on the board by edgeattn devices --probe {host}, {date.today().isoformat()}"},
        "devices": {name: entry},
    }


def write_devices(content: dict[str, Any], path: str | Path) -> None:
    """Writes the entry, or adds it to the devices that the file has; InputError where it cannot be written or already names the device."""
    file = Path(path)
    (name,) = content["devices"]
    try:
        kept = (yaml.safe_load(file.read_text()) or {}) if file.exists() else {}
        if name in kept.get("devices", {}):
            raise InputError(f"{file} already describes {name}: remove that entry first, or write to another file.")
        merged = {**kept, "schema": 1, **{key: {**kept.get(key, {}), **content[key]} for key in ("sources", "devices")}}
        partial = file.with_name(f"{file.name}.partial")
        partial.write_text(yaml.safe_dump(merged, sort_keys=False))
        partial.replace(file)
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{file} cannot be written: {error}.") from None


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("nvidia", "")).strip("-") or "board"


def _cpu_formats(isa: list[str]) -> list[str]:
    formats = ["fp32"]
    formats += ["fp16"] if "asimdhp" in isa else []
    formats += ["bf16"] if {"bf16", "avx512_bf16", "amx_bf16"} & set(isa) else []
    return formats + (["int8"] if {"avx2", "asimd"} & set(isa) else [])


def _jetson_formats(capability: str | None) -> list[str]:
    """fp16 everywhere; int8 has fast kernels from 7.2 on (TensorRT support matrix, "hardware and precision")."""
    return ["fp32", "fp16", *(["int8"] if capability and float(capability) >= 7 else [])]


def _software(found: dict[str, Any]) -> dict[str, str]:
    """The board's own versions; JetPack's name and the opset come from the newest line we know that is not newer than the board's TensorRT."""
    lines = {line["tensorrt"]: line for device in catalogue().devices.values() for line in device.software if "tensorrt" in line}
    own = found.get("tensorrt") or next(
        (line["tensorrt"] for line in lines.values() if found["l4t"].split(".")[0] == line.get("l4t", "").split(".")[0]), None
    )
    older = [line for version, line in lines.items() if own and _version(version) <= _version(own)]
    if not own or not older:
        raise InputError(
            f"the board runs L4T {found['l4t']} without a TensorRT that edgeattn knows: install it there (sudo apt install nvidia-jetpack)."
        )
    line = max(older, key=lambda line: _version(line["tensorrt"]))
    python = ".".join(found["python"].split(".")[:2])
    return {"jetpack": line["jetpack"], "tensorrt": own, "l4t": found["l4t"], "python": python, "opset": line["opset"]}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
