"""A board's state in one file, taken between two steps: the board that `restore` makes of it goes on bit for bit as the saved one would have.

A zip of `state.json` (the registers of every router, system controller, core and core's devices; what the host's side has to know again) and of each
chip's memory: system RAM, the memories of its cores, and of its SDRAM what was ever touched.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError
from .chip import Chip
from .core import Core
from .faults import Fault, raised
from .machine import Machine
from .packets import Packet
from .router import Entry

FORMAT = 1
VALUES: dict[str, Callable[..., Any]] = {"Packet": Packet, "Entry": Entry, "dict": lambda *pairs: dict(pairs), "deque": lambda *items: deque(items)}


class Kept(Protocol):
    """A device; STATE: its attributes that change while it runs."""

    @property
    def STATE(self) -> tuple[str, ...]: ...  # noqa: N802 - a constant of every class


def save(machine: Machine, path: Path, host: Any = None) -> None:
    """Writes the machine's state. host: what else `restore` shall give back, as JSON holds it. The file is whole or as it was.

    Raises InputError where it cannot be written.
    """
    machine.settle()
    body = {
        "format": FORMAT,
        "chips": [_chip_state(chip) for chip in machine.chips.values()],
        "lost": [*machine.lost.items()],
        "messages": [[chip.place, message.hex()] for chip, message in machine.messages],
        "host": host,
    }
    partial = path.with_name(path.name + ".partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            file.writestr("state.json", json.dumps(body))
            for chip in machine.chips.values():
                for name, content in _memories(chip):
                    file.writestr(name, content)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"the board's state cannot be written to {path}: {error.strerror or error}.") from None
    finally:
        partial.unlink(missing_ok=True)


def restore(path: Path, fail: Callable[[Fault], None] = raised) -> tuple[Machine, Any]:
    """The machine, and `host` as it was saved. fail: as of `Machine`. Raises InputError for a file that holds no state of this format."""
    try:
        with zipfile.ZipFile(path) as file:
            body = json.loads(file.read("state.json"))
            if body.get("format") != FORMAT:
                raise InputError(f"{path} holds a board's state in format {body.get('format')}; read is format {FORMAT}: save it anew.")
            machine = Machine([tuple(chip["place"]) for chip in body["chips"]], fail)
            for state in body["chips"]:
                _set_chip(machine.chips[tuple(state["place"])], state, file)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no board's state ({error}).") from None
    machine.lost = Counter(dict(body["lost"]))
    machine.messages = [(machine.chips[tuple(place)], bytes.fromhex(message)) for place, message in body["messages"]]
    return machine, body["host"]


def _devices(core: Core) -> dict[str, Kept]:
    return {"timer 1": core.timers.first, "timer 2": core.timers.second, "packets": core.packets, "dma": core.dma, "interrupts": core.interrupts}


def _chip_state(chip: Chip) -> dict[str, Any]:
    cores = [
        {"number": number, "running": core.running, "registers": core.registers(), **{name: _kept(device) for name, device in _devices(core).items()}}
        for number, core in chip.cores.items()
    ]
    return {"place": chip.place, "sdram": chip.memory.sdram.touched(), "system": _kept(chip.system), "router": _kept(chip.router), "cores": cores}


def _set_chip(chip: Chip, state: dict[str, Any], file: zipfile.ZipFile) -> None:
    _put(chip.system, state["system"])
    _put(chip.router, state["router"])
    sdram, start = file.read(f"{chip.name}/sdram"), 0
    for offset, size in state["sdram"]:
        chip.memory.sdram.bytes[offset : offset + size] = sdram[start : start + size]
        start += size
    chip.memory.system_ram.bytes[:] = file.read(f"{chip.name}/system_ram")
    for saved in state["cores"]:
        core = chip.cores[saved["number"]] = Core(chip, saved["number"])
        for name, memory in core.memories.items():
            memory[:] = file.read(f"{chip.name}/{core.number}/{name}")
        for name, device in _devices(core).items():
            _put(device, saved[name])
        if saved["running"]:
            core.resume(saved["registers"])


def _memories(chip: Chip) -> list[tuple[str, bytes]]:
    sdram = b"".join(chip.memory.sdram.bytes[offset : offset + size] for offset, size in chip.memory.sdram.touched())
    cores = [(f"{chip.name}/{number}/{name}", memory[:]) for number, core in chip.cores.items() for name, memory in core.memories.items()]
    return [(f"{chip.name}/sdram", sdram), (f"{chip.name}/system_ram", chip.memory.system_ram.bytes[:]), *cores]


def _kept(device: Kept) -> dict[str, Any]:
    return {name: _packed(getattr(device, name)) for name in device.STATE}


def _put(device: Kept, state: dict[str, Any]) -> None:
    for name in device.STATE:
        setattr(device, name, _unpacked(state[name]))


def _packed(value: Any) -> Any:
    """JSON knows numbers and lists; the few other kinds of value that devices hold become {kind: parts}."""
    if isinstance(value, Packet | Entry):
        return {type(value).__name__: [*vars(value).values()]}
    if isinstance(value, dict):
        return {"dict": [[key, _packed(content)] for key, content in value.items()]}
    if isinstance(value, deque):
        return {"deque": [_packed(item) for item in value]}
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, parts),) = value.items()
    return VALUES[kind](*_unpacked(parts))
