"""The data regions, binaries and routes of a mapped network (`capture.py`), loaded onto emulated chips as sPyNNaker's host side would.

A core's regions lie in one block of SDRAM behind a table: magic number, version, then pointer, checksum and words of each of 32 regions. Its
address is in the core's user word 0. Expanders run first: small binaries that write out what the host only describes (neuron parameters, bit fields).
"""

from __future__ import annotations

import json
import sqlite3
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import MissingError
from .aplx import read_aplx
from .chip import SYNC_0, USER, Chip
from .faults import Fault
from .machine import Machine
from .router import Entry

MAGIC, VERSION, REGIONS = 0xAD130AD6, 0x00010000, 32
TABLE = 8 + 12 * REGIONS
DATA_TAG, APPLICATION, EXPANDER = 200, 16, 30
CONTROL_PORT, REPLY, NEW_RUN_TIME = 3, 0x87, 7
FINISHED, READY = 11, 10  # core states: exited, paused


@dataclass(frozen=True)
class MappedCore:
    """place: (x, y, p). atoms: the first neuron of the population `label` and how many; key: of its first neuron's spikes, None if never sent."""

    place: tuple[int, int, int]
    binary: str
    label: str
    atoms: tuple[int, int]
    expanders: list[tuple[str, int]]
    key: int | None
    colour_bits: int

    @property
    def chip(self) -> tuple[int, int]:
        return self.place[:2]

    def spike(self, neuron: int, time: int) -> int:
        """The key of a spike of the population's neuron; its lowest bits are the time it was sent at, by which receivers tell late packets."""
        assert self.key is not None
        return self.key + ((neuron - self.atoms[0]) << self.colour_bits) + (time & ((1 << self.colour_bits) - 1))


@dataclass(frozen=True)
class Specification:
    """neurons: by PyNN population, the name it has in our mapping and which of that layer's neurons it holds."""

    folder: Path
    cores: tuple[MappedCore, ...]
    routes: tuple[tuple[int, int, int, int, int], ...]
    neurons: dict[str, tuple[str, list[int]]]
    steps: int

    @classmethod
    def read(cls, folder: Path) -> Specification:
        body = json.loads((folder / "cores.json").read_text())
        cores = tuple(
            MappedCore(**{**core, "place": tuple(core["place"]), "atoms": tuple(core["atoms"]), "expanders": [tuple(e) for e in core["expanders"]]})
            for core in body["cores"]
        )
        return cls(folder, cores, tuple(tuple(route) for route in body["routes"]), body["neurons"], body["steps"])

    def regions(self, core: MappedCore) -> list[tuple[int, str, int, bytes | None]]:
        """(number, label, size, content) of a core's regions."""
        with sqlite3.connect(self.folder / "specification.sqlite3") as database:
            query = "SELECT region_num, region_label, size, content FROM region WHERE x = ? AND y = ? AND p = ? ORDER BY region_num"
            return list(database.execute(query, core.place))


def capture(folder: Path, steps: int) -> Specification:
    """Maps the bundle files in `folder` by sPyNNaker, in a process of its own, for a run of `steps`."""
    command = [sys.executable, "-m", "edgeattn.board.capture", str(folder), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"sPyNNaker could not map the network: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
    return Specification.read(folder)


class Loaded:
    """A specification on a machine; `cores` of it run, all by default."""

    def __init__(self, specification: Specification, binaries: tuple[str, ...] | None = None) -> None:
        self.specification = specification
        self.cores = [core for core in specification.cores if binaries is None or Path(core.binary).name in binaries]
        places = [core.chip for core in specification.cores] + [(x, y) for x, y, *_ in specification.routes]
        self.machine = Machine(places)
        for index, (x, y, key, mask, route) in enumerate(specification.routes):
            self.machine.chips[x, y].router.set_entry(index, Entry(key, mask, route))
        self.pointers = {core.place: self._load(core) for core in self.cores}
        for core in self.cores:
            self._start(core)

    def chip(self, core: MappedCore) -> Chip:
        return self.machine.chips[core.chip]

    def _load(self, core: MappedCore) -> dict[str, int]:
        """Writes a core's regions; where each is, by label."""
        memory, regions = self.chip(core).memory, self.specification.regions(core)
        start = self.chip(core).heap.allocate(TABLE + sum(size for _, _, size, _ in regions), APPLICATION, DATA_TAG + core.place[2])
        if not start:
            raise Fault(f"chip {core.chip}: no SDRAM left for the regions of core {core.place[2]}.")
        table, place, found = np.zeros((REGIONS, 3), np.uint32), start + TABLE, {}
        for number, label, size, content in regions:
            padded = (content or b"") + bytes(-len(content or b"") % 4)
            words = np.frombuffer(padded, np.uint32)
            memory.write(place, padded)
            table[number] = place, int(words.sum(dtype=np.uint64)) & 0xFFFFFFFF, len(words)
            found[label] = place
            place += size
        memory.write(start, struct.pack("<II", MAGIC, VERSION) + table.tobytes())
        memory.set_word(self.chip(core).vcpu(core.place[2], USER), start)
        return found

    def _start(self, core: MappedCore) -> None:
        chip, number = self.chip(core), core.place[2]
        for binary, region in core.expanders:
            chip.memory.set_word(chip.vcpu(number, USER + 4), region)
            self._run(core, binary, EXPANDER, FINISHED)
            chip.stop(EXPANDER)
        self._run(core, core.binary, APPLICATION, READY)

    def _run(self, core: MappedCore, binary: str, application: int, expected: int) -> None:
        chip, number = self.chip(core), core.place[2]
        chip.start(read_aplx(Path(binary).read_bytes(), Path(binary).name), [number], application)
        if chip.state(number) != expected:
            raise Fault(f"{core.label}: {Path(binary).name} ends in state {chip.state(number)}, expected was {expected}.")

    def begin(self, steps: int) -> None:
        """Tells every core how long to run, and lets all start together."""
        for core in self.cores:
            header = struct.pack("<BBBBHH", REPLY, 0xFF, CONTROL_PORT << 5 | core.place[2], 0xFF, 0, 0)
            self.chip(core).deliver(core.place[2], header + struct.pack("<HHIIII", NEW_RUN_TIME, 0, steps, 0, 0, 0))
        for place, chip in self.machine.chips.items():
            chip.signal(SYNC_0, [core.place[2] for core in self.cores if core.chip == place])

    def recording(self, core: MappedCore, channel: int) -> bytes:
        """What a core recorded in a channel so far; complete once it has paused. Raises Fault where it ran out of room."""
        memory, base = self.chip(core).memory, self.pointers[core.place]["Recording"]
        _, size, data = struct.unpack("<III", memory.read(base + 4 + 12 * channel, 12))
        if size >> 31:
            raise Fault(f"{core.label}: recording channel {channel} ran out of room.")
        return memory.read(data, size)
