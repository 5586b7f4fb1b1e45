"""What a chip's monitor processor answers the host (SCP): commands by number, each from three arguments and data to three words and data.

Formats are SARK's and SC&MP's (sark.h, scamp-cmd.c). A command that is not modelled is answered with the protocol's own "bad command", and logged.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError
from .aplx import read_aplx
from .chip import APPLICATION, CORES, IMAGE, IMAGE_SIZE, STATE, SYNC_0, SYNC_1, Chip
from .faults import Fault
from .machine import Machine
from .router import ENTRIES, LINKS, STEP

LOG = logging.getLogger(__name__)
OK, BAD_LENGTH, BAD_SUM, BAD_COMMAND, BAD_ARGUMENT, NO_CORE = 0x80, 0x81, 0x82, 0x83, 0x84, 0x88
LARGEST = 256  # bytes of data in a message
TAGS = range(8)  # those that the host sets
STOP_SIGNAL = 2
WAIT = 1 << 18
ADDRESS = 0xE5007FF0  # in the system variables: the chip's Ethernet address
VERSION = b"SC&MP/SpiNNaker\x004.0.0\x00"


@dataclass(frozen=True)
class Request:
    """A message to the monitor of `chip`, from `sender` (address, port)."""

    chip: Chip
    command: int
    arguments: tuple[int, int, int]
    data: bytes
    sender: tuple[str, int]


class Refused(Exception):
    """A command that the monitor answers with a return code other than OK."""

    def __init__(self, code: int, why: str) -> None:
        self.code = code
        super().__init__(why)


class Monitor:
    """Answers for every chip of a machine. address: the Ethernet address of chip 0,0, four numbers."""

    def __init__(self, machine: Machine, address: tuple[int, ...]) -> None:
        self.machine, self._address = machine, bytes(address)
        self.tags: dict[int, tuple[str, int, bool]] = {}  # tag: address, port, whether the header is stripped
        machine.chips[0, 0].memory.write(ADDRESS, self._address)
        self._commands: dict[int, Callable[[Request], bytes]] = {
            0: self._version,
            2: self._read,
            3: self._write,
            5: self._fill,
            15: self._count,
            17: self._link_read,
            19: self._run,
            20: self._neighbour,
            21: self._copy_and_run,
            22: self._signal,
            25: lambda request: b"",  # LEDs
            26: self._tag,
            28: self._allocate,
            29: self._route,
            31: self._information,
            32: lambda request: b"",  # clock synchronisation: every clock here is the same
        }

    def answer(self, request: Request) -> tuple[int, bytes]:
        """(return code, what follows the sequence number)."""
        handler = self._commands.get(request.command)
        try:
            if handler is None:
                raise Refused(BAD_COMMAND, "is not modelled")
            return OK, handler(request)
        except (Refused, Fault, InputError) as error:
            arguments = ", ".join(f"{argument:#x}" for argument in request.arguments)
            LOG.error("chip %s: command %d (%s): %s", request.chip.name, request.command, arguments, error)
            return (error.code if isinstance(error, Refused) else BAD_ARGUMENT), b""

    def _version(self, request: Request) -> bytes:
        x, y = request.chip.place
        return struct.pack("<IIi", x << 24 | y << 16, 0xFFFF0000 | LARGEST, 0) + VERSION

    def _read(self, request: Request) -> bytes:
        address, size, _ = request.arguments
        return request.chip.read(address, _sized(size))

    def _write(self, request: Request) -> bytes:
        address, size, _ = request.arguments
        if len(request.data) < _sized(size):
            raise Refused(BAD_LENGTH, f"{size} bytes were announced, {len(request.data)} came")
        request.chip.write(address, request.data[:size])
        return b""

    def _fill(self, request: Request) -> bytes:
        address, word, size = request.arguments
        if address % 4 or size % 4 or request.chip.memory.locate(address, size) is None:
            raise Refused(BAD_ARGUMENT, f"{size} bytes at {address:#010x} are not whole words of shared memory")
        request.chip.write(address, struct.pack("<I", word) * (size // 4))
        return b""

    def _link_read(self, request: Request) -> bytes:
        address, size, link = request.arguments
        return self._neighbour_of(request.chip, link).read(address, _sized(size))

    def _neighbour_of(self, chip: Chip, link: int) -> Chip:
        step = STEP[link] if link < LINKS else (99, 99)
        neighbour = self.machine.chips.get((chip.place[0] + step[0], chip.place[1] + step[1]))
        if neighbour is None:
            raise Refused(BAD_ARGUMENT, f"link {link} leads to no chip")
        return neighbour

    def _count(self, request: Request) -> bytes:
        application, state, _ = request.arguments
        blocks = ((chip, processor) for chip in self.machine.chips.values() for processor in range(1, CORES))
        matching = (
            chip.memory.byte(chip.vcpu(p, APPLICATION)) == application and chip.memory.byte(chip.vcpu(p, STATE)) == state for chip, p in blocks
        )
        return struct.pack("<I", sum(matching))

    def _run(self, request: Request) -> bytes:
        self._start(request.chip, request.chip.memory.read(IMAGE, IMAGE_SIZE), request.arguments[0])
        return b""

    def _copy_and_run(self, request: Request) -> bytes:
        link_and_sum, size, cores = request.arguments
        if size % 4 or size > IMAGE_SIZE:
            raise Refused(BAD_LENGTH, f"an image of {size} bytes is not whole words, or more than {IMAGE_SIZE}")
        image = self._neighbour_of(request.chip, link_and_sum & 7).memory.read(IMAGE, size)
        wanted, found = link_and_sum >> 3, sum(struct.unpack(f"<{size // 4}I", image)) & 0x1FFFFFFF
        if wanted not in (0, found):
            raise Refused(BAD_SUM, f"the image's checksum is {found:#x}")
        request.chip.memory.write(IMAGE, image)
        self._start(request.chip, image, cores)
        return b""

    def _start(self, chip: Chip, image: bytes, cores: int) -> None:
        """cores: a mask of cores, the wait flag, and the application's number in the upper byte."""
        processors = [p for p in range(1, CORES) if cores >> p & 1]
        if processors:
            chip.start(read_aplx(image, "the loaded image"), processors, cores >> 24, bool(cores & WAIT))

    def _signal(self, request: Request) -> bytes:
        _, data, _ = request.arguments
        self.signal(data >> 16 & 15, data & 255)
        return b""

    def _neighbour(self, request: Request) -> bytes:
        """A broadcast over the links, here at once everywhere: signals only."""
        data = request.arguments[1]
        if data >> 28 != 5:
            raise Refused(BAD_ARGUMENT, "broadcasts only signals")
        self.signal(data >> 16 & 15, data & 255)
        return b""

    def signal(self, signal: int, application: int) -> None:
        chips = [(chip, chip.applied(application)) for chip in self.machine.chips.values()]
        for chip, processors in chips:
            if signal == STOP_SIGNAL:
                chip.stop(application)
            elif processors and signal in (SYNC_0, SYNC_1):
                chip.set_flags(signal, processors)
        for chip, processors in chips:
            if signal != STOP_SIGNAL and processors:
                chip.signal(signal, processors)

    def _tag(self, request: Request) -> bytes:
        first, second, third = request.arguments
        operation, tag = first >> 16 & 255, first & 255
        if operation in (1, 2, 3) and tag not in TAGS:
            raise Refused(BAD_ARGUMENT, f"tag {tag} is none of {TAGS.start} to {TAGS.stop - 1}")
        if operation == 1:
            address = ".".join(str(part) for part in struct.pack("<I", third)) if third else request.sender[0]
            port = request.sender[1] if first >> 30 & 1 else second & 0xFFFF
            self.tags[tag] = (address, port, bool(first >> 28 & 1))
            return struct.pack("<I", tag)
        if operation == 2:
            return self._tag_entry(tag)
        if operation == 3:
            self.tags.pop(tag, None)
            return b""
        if operation == 4:
            return struct.pack("<I", 9 | 32 << 8 | 8 << 16 | 8 << 24)
        raise Refused(BAD_ARGUMENT, f"tag operation {operation} is not modelled")

    def _tag_entry(self, tag: int) -> bytes:
        address, port, strip = self.tags.get(tag, ("0.0.0.0", 0, False))
        flags = (0x8000 | (0x0100 if strip else 0)) if tag in self.tags else 0
        return struct.pack("<4s6s3HIH3B", bytes(int(part) for part in address.split(".")), bytes(6), port, 0, flags, 0, 0, 0, 0, 0)

    def _allocate(self, request: Request) -> bytes:
        first, second, third = request.arguments
        operation, application, chip = first & 255, first >> 8 & 255, request.chip
        if operation == 0:
            return struct.pack("<I", chip.heap.allocate(second, application, third))
        if operation == 1:
            if not chip.heap.holds(second):
                raise Refused(BAD_ARGUMENT, f"no block was allocated at {second:#010x}")
            chip.heap.free(second)
            return b""
        if operation == 2:
            return struct.pack("<I", chip.heap.free_application(application))
        if operation == 3:
            return struct.pack("<I", chip.table.allocate(second, application))
        if operation == 5:
            chip.table.free_application(application)
            return struct.pack("<I", 0)
        if operation == 6:
            return struct.pack("<II", chip.memory.word(chip.heap.base + 12), chip.heap.largest())
        raise Refused(BAD_ARGUMENT, f"allocation {operation} is not modelled")

    def _route(self, request: Request) -> bytes:
        first, second, third = request.arguments
        operation, count, chip = first & 255, first >> 16, request.chip
        start = {1: second, 2: third}.get(operation, 0)
        if start + count > ENTRIES:
            raise Refused(BAD_ARGUMENT, f"{count} entries from {start} on reach beyond the table's {ENTRIES}")
        if operation == 0:
            chip.table.reset()
        elif operation == 1:
            chip.table.clear(range(second, second + count))
        elif operation == 2:
            chip.table.load(chip.memory.read(second, 16 * count), count, third)
        elif operation == 3 and second >> 31:
            return struct.pack("<I", chip.router.fixed_route)
        elif operation == 3:
            chip.router.fixed_route = second
        else:
            raise Refused(BAD_ARGUMENT, f"router operation {operation} is not modelled")
        return b""

    def _information(self, request: Request) -> bytes:
        chip = request.chip
        (x, y), chips = chip.place, self.machine.chips
        links = sum(1 << link for link, (dx, dy) in enumerate(STEP) if (x + dx, y + dy) in chips)
        root = chip.place == (0, 0)
        flags = CORES | links << 8 | chip.table.largest() << 14 | int(root) << 25
        states = bytes(chip.state(processor) for processor in range(CORES))
        address = self._address if root else bytes(4)
        return struct.pack("<III", flags, chip.heap.largest(), 0x2000) + states + bytes(2) + address + struct.pack("<H", towards_root(chip.place))


def _sized(size: int) -> int:
    """The size of a read or write, where a message holds as much."""
    if size > LARGEST:
        raise Refused(BAD_LENGTH, f"{size} bytes are more than a message's {LARGEST}")
    return size


def towards_root(place: tuple[int, int]) -> int:
    """The link that leads from a chip towards 0,0; 7 on the root itself."""
    x, y = place
    return 7 if not x and not y else 4 if x and y else 3 if x else 5


def board_places() -> list[tuple[int, int]]:
    """The 48 chips of a version 5 board."""
    return [(x, y) for y in range(8) for x in range(max(0, y - 3), min(8, y + 5))]
