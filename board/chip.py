"""A chip: 18 cores around 128 MB of SDRAM, 32 kB of system RAM, the system controller and the router.

Core 0 is the monitor processor; what it does on a board, this class does: it keeps the system variables (the last 256 bytes of system RAM and what
they point to), starts and stops applications, and carries messages between cores and the host.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from .aplx import Image
from .core import Core, Device, Failure
from .faults import Fault, raised
from .heap import Heap
from .memory import SharedMemory
from .packets import Packet
from .router import Router, Table
from .system import SystemController
from .watchdog import Watchdog

CORES = 18
VCPU, VCPU_SIZE = 0xE5007000, 128
VARIABLES = 0xE5007F00
USER_HEAP, SYSTEM_AREA, SDRAM_END = 0x60000000, 0x67800000, 0x68000000
IMAGE, IMAGE_SIZE = SYSTEM_AREA, 0x40000  # where the host writes an executable or a routing table before it is started or loaded
TAGS = IMAGE + IMAGE_SIZE  # 256 x 256 words: the tagged block of each application
APPLICATIONS, APPLICATION_SIZE = TAGS + 0x40000, 8
ROUTER_COPY = APPLICATIONS + 256 * APPLICATION_SIZE
CORE_BUFFERS, CORE_BUFFER_SIZE = ROUTER_COPY + 1025 * 16, 0x8000
SYSTEM_HEAP = CORE_BUFFERS + CORES * CORE_BUFFER_SIZE
MESSAGES, MESSAGE_SIZE, MESSAGE_COUNT = 0xE5001000, 296, 16
SYSTEM_RAM_HEAP, SYSTEM_RAM_HEAP_END = 0xE5003000, 0xE5006000
CLOCK_MHZ, BUFFER_SIZE = 200, 16384
ERROR, STATE, APPLICATION = 44, 46, 47  # offsets in a core's block
TO_CORE, FROM_CORE = (48, 56), (52, 57)  # mailboxes: message, command
USER = 112  # the four user words
MESSAGE, SIGNAL = 1, 3  # mailbox commands
FAILED, STUCK, INITIALISING, RUNNING, IDLE = 2, 3, 4, 7, 15
DATA_ABORT = 5  # a run-time error
SYNC_0, SYNC_1 = 4, 5


class Chip:
    """At (x, y). route: takes the packets that cores send; to_host: takes their messages to the host; fail: told why a core ended."""

    def __init__(
        self,
        place: tuple[int, int],
        route: Callable[[Chip, Packet], None],
        to_host: Callable[[Chip, bytes], None],
        fail: Callable[[Fault], None] = raised,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.place, self._route, self._to_host, self._fail = place, route, to_host, fail
        self.watchdog = watchdog or Watchdog()
        self.memory = SharedMemory()
        self.router = Router()
        self.system = SystemController(self._called)
        self.cores: dict[int, Core] = {}
        self._lay_out()

    @property
    def name(self) -> str:
        return f"{self.place[0]},{self.place[1]}"

    @property
    def shared(self) -> list[tuple[int, int, Device]]:
        return [(base, pages, device) for high in (0xE0000000, 0xF0000000) for base, pages, device in self._devices(high)]

    def _devices(self, high: int) -> list[tuple[int, int, Device]]:
        return [(high + 0x01000000, 0x18, self.router), (high + 0x02000000, 1, self.system)]

    def interrupted(self, processor: int) -> bool:
        return bool(self.system.interrupts >> processor & 1)

    def send(self, processor: int, packet: Packet) -> None:
        self._route(self, packet)

    def failed(self, processor: int, failure: Failure) -> None:
        """Leaves in the core's block what the system software leaves there on a run-time error, for the host to read."""
        self.memory.write(self.vcpu(processor), struct.pack("<11I", *failure.registers))
        self.memory.set_byte(self.vcpu(processor, ERROR), 0 if failure.stuck else DATA_ABORT)
        self.memory.set_byte(self.vcpu(processor, STATE), STUCK if failure.stuck else FAILED)
        self._fail(failure.fault)

    def vcpu(self, processor: int, offset: int = 0) -> int:
        """The address of a core's block of 128 bytes in system RAM, or of a field in it."""
        return VCPU + VCPU_SIZE * processor + offset

    def read(self, address: int, size: int) -> bytes:
        """Memory or registers as the monitor sees them. Raises Fault where there is neither, as `write` does."""
        device = self._device(address)
        if device is None:
            return self.memory.read(address, size)
        words = [device[0].read(device[1] + offset) for offset in range(0, size, 4)]
        return struct.pack(f"<{len(words)}I", *words)[:size]

    def write(self, address: int, data: bytes) -> None:
        device = self._device(address)
        if device is None:
            self.memory.write(address, data)
        else:
            for offset in range(0, len(data), 4):
                device[0].write(device[1] + offset, int.from_bytes(data[offset : offset + 4], "little"))

    def _device(self, address: int) -> tuple[Device, int] | None:
        for base, pages, device in self.shared:
            if base <= address < base + 0x1000 * pages:
                return device, address - base
        return None

    def state(self, processor: int) -> int:
        return self.memory.byte(self.vcpu(processor, STATE))

    def start(self, image: Image, processors: list[int], application: int, wait: bool = False) -> None:
        """Starts an application on cores; wait: hold it before its main routine until the start signal."""
        for processor in processors:
            self.cores.setdefault(processor, Core(self, processor)).load(image)
        for processor in processors:
            self.memory.set_byte(self.vcpu(processor, STATE), INITIALISING)
            self.system.flags |= 1 << processor
        for processor in processors:
            self.cores[processor].start(image.entry, int(wait) << 8 | application)

    def stop(self, application: int) -> None:
        """Ends an application: its cores, memory and routes are free again."""
        for processor in self.applied(application):
            self.cores.pop(processor).stop()
            self.memory.write(self.vcpu(processor), bytes(USER))  # the user words outlive an application
            self.memory.set_byte(self.vcpu(processor, STATE), IDLE)
        self.table.free_application(application)
        for heap in (self.heap, self.system_heap):
            heap.free_application(application)

    def applied(self, application: int) -> list[int]:
        """The cores that run an application."""
        return [p for p in self.cores if self.memory.byte(self.vcpu(p, APPLICATION)) == application]

    def signal(self, signal: int, processors: list[int]) -> None:
        """Sends a signal to cores. Synchronisation sets or clears their flags; others go through the mailbox."""
        self.set_flags(signal, processors)
        for processor in processors:
            if signal not in (SYNC_0, SYNC_1):
                self._post(processor, SIGNAL, signal)
            self._interrupt(processor)

    def set_flags(self, signal: int, processors: list[int]) -> None:
        """What a synchronisation signal does before any core is woken."""
        mask = sum(1 << processor for processor in processors)
        if signal == SYNC_0:
            self.system.flags &= ~mask
        elif signal == SYNC_1:
            self.system.flags |= mask

    def deliver(self, processor: int, message: bytes) -> bool:
        """Hands an SDP message (from its flags on) to a core's mailbox; False where the core takes none."""
        if processor not in self.cores or not self.cores[processor].running:
            return False
        address = self._take_buffer()
        if not address:
            raise Fault(f"chip {self.name}: no message buffer is left for core {processor}.")
        self.memory.write(address + 4, struct.pack("<HH", len(message), 0) + message)
        self._post(processor, MESSAGE, address)
        self._interrupt(processor)
        return True

    def _post(self, processor: int, command: int, value: int) -> None:
        message, kind = TO_CORE
        self.memory.set_word(self.vcpu(processor, message), value)
        self.memory.set_byte(self.vcpu(processor, kind), command)

    def _interrupt(self, processor: int) -> None:
        self.system.interrupts |= 1 << processor
        self.cores[processor].wake()

    def _called(self, mask: int) -> None:
        """A core asks for the monitor: every waiting message is taken at once, so that its sender never waits."""
        if not mask & 1:
            return
        self.system.interrupts &= ~1
        flags, self_flags = self.memory.word(VARIABLES + 0xEC), VARIABLES + 0xEC
        self.memory.set_word(self_flags, 0)
        for processor in range(CORES):
            message, kind = FROM_CORE
            if flags >> processor & 1 and self.memory.byte(self.vcpu(processor, kind)) == MESSAGE:
                address = self.memory.word(self.vcpu(processor, message))
                length = struct.unpack("<H", self.memory.read(address + 4, 2))[0]
                data = self.memory.read(address + 8, length)
                self._give_buffer(address)
                self.memory.set_byte(self.vcpu(processor, kind), 0)
                self._to_host(self, data)

    def _take_buffer(self) -> int:
        address = self.memory.word(VARIABLES + 0x68)
        if address:
            self.memory.set_word(VARIABLES + 0x68, self.memory.word(address))
        return address

    def _give_buffer(self, address: int) -> None:
        self.memory.set_word(address, self.memory.word(VARIABLES + 0x68))
        self.memory.set_word(VARIABLES + 0x68, address)

    def _lay_out(self) -> None:
        """System variables, heaps and message buffers as the monitor leaves them after boot."""
        put = self.memory.set_word
        self.table = Table(self.router, self.memory, ROUTER_COPY, VARIABLES + 0xE0)
        self.heap = Heap.create(self.memory, USER_HEAP, SYSTEM_AREA, TAGS)
        self.system_heap = Heap.create(self.memory, SYSTEM_HEAP, SDRAM_END, TAGS)
        Heap.create(self.memory, SYSTEM_RAM_HEAP, SYSTEM_RAM_HEAP_END, TAGS)
        for index in range(MESSAGE_COUNT):
            following = MESSAGES + (index + 1) * MESSAGE_SIZE if index + 1 < MESSAGE_COUNT else 0
            put(MESSAGES + index * MESSAGE_SIZE, following)
        words = {
            0x00: self.place[0] << 8 | self.place[1] | 0x0808 << 16,  # address; dimensions
            0x24: CLOCK_MHZ | 130 << 16,
            0x48: SYSTEM_RAM_HEAP,
            0x4C: USER_HEAP,
            0x50: BUFFER_SIZE,
            0x54: CORE_BUFFERS,
            0x58: CORE_BUFFER_SIZE // 4,
            0x68: MESSAGES,
            0xC0: USER_HEAP,
            0xC4: SYSTEM_RAM_HEAP,
            0xC8: SYSTEM_AREA,
            0xCC: VCPU,
            0xD0: SYSTEM_HEAP,
            0xD4: ROUTER_COPY,
            0xDC: TAGS,
            0xE0: 1,  # the table's first free block
            0xE4: APPLICATIONS,
            0xE8: MESSAGES,
            0xFC: 0x00040000,
        }
        for offset, value in words.items():
            put(VARIABLES + offset, value)
        for processor in range(CORES):
            self.memory.set_byte(VARIABLES + 0x94 + processor, processor)
            self.memory.set_byte(VARIABLES + 0xA8 + processor, processor)
            self.memory.set_byte(self.vcpu(processor, STATE), RUNNING if processor == 0 else IDLE)
        self.memory.set_byte(VARIABLES + 0xBC, CORES)
