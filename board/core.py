"""One ARM968 core: 32 kB of instructions at 0x0, 64 kB of data at 0x400000, its own devices, and the chip's shared memory and devices.

A core runs until it sleeps (wait for interrupt). Interrupts are taken there and nowhere else: a handler is never interrupted, and code that runs
on is infinitely fast compared with the packets that arrive. SARK sleeps with interrupts masked and unmasks them at once, so what arrives while it
sleeps is taken on waking, the fast interrupt first.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .aplx import Image
from .dma import DmaController
from .faults import Fault, UnknownRegister
from .interrupts import SYSTEM, TIMER_1, InterruptController
from .memory import SharedMemory
from .packets import CommunicationsController, Packet
from .registers import MODE, arm, read_registers, unicorn, write_registers
from .timers import Timers
from .watchdog import Watchdog

ITCM, ITCM_SIZE = 0x00000000, 0x8000
DTCM, DTCM_SIZE = 0x00400000, 0x10000
NOWHERE = 0xFFFFFFFE  # an address that execution never reaches
PAGE = 0x1000
THUMB, MASK_FIQ, MASK_IRQ = 0x20, 0x40, 0x80
FIQ_MODE, IRQ_MODE, SUPERVISOR = 0x11, 0x12, 0x13
FAILED_REGISTERS = (
    *(getattr(arm, f"UC_ARM_REG_R{number}") for number in range(8)),
    arm.UC_ARM_REG_CPSR,
    arm.UC_ARM_REG_SP,
    arm.UC_ARM_REG_LR,
    arm.UC_ARM_REG_PC,
)
ACCESS = {unicorn.UC_MEM_READ_UNMAPPED: "reads", unicorn.UC_MEM_WRITE_UNMAPPED: "writes", unicorn.UC_MEM_FETCH_UNMAPPED: "runs into"}


class Device(Protocol):
    """Registers of 32 bits by offset from the device's base."""

    def read(self, offset: int) -> int: ...

    def write(self, offset: int, value: int) -> None: ...


@dataclass(frozen=True)
class Failure:
    """Why a core ended, and its registers then: r0 to r7, state, stack pointer and link; stuck: it never slept."""

    fault: Fault
    registers: tuple[int, ...]
    stuck: bool = False


class ChipSide(Protocol):
    """What a core sees of its chip. shared: (base, pages, device) of the devices that all its cores see."""

    memory: SharedMemory

    @property
    def name(self) -> str: ...

    @property
    def shared(self) -> list[tuple[int, int, Device]]: ...

    def interrupted(self, processor: int) -> bool: ...

    @property
    def watchdog(self) -> Watchdog: ...

    def send(self, processor: int, packet: Packet) -> None: ...

    def failed(self, processor: int, failure: Failure) -> None: ...


class Core:
    """Processor `number` (physical and virtual numbers are the same here) of a chip."""

    def __init__(self, chip: ChipSide, number: int) -> None:
        self.chip, self.number = chip, number
        self.running = False
        self.reset()

    @property
    def name(self) -> str:
        return f"core {self.chip.name},{self.number}"

    def reset(self) -> None:
        """Memories and devices as after power-on."""
        self.timers = Timers()
        self.packets = CommunicationsController(lambda packet: self.chip.send(self.number, packet))
        self.dma = DmaController(self.number, self._copy)
        self.interrupts = InterruptController(self._lines)
        self.itcm, self.dtcm = mmap.mmap(-1, ITCM_SIZE), mmap.mmap(-1, DTCM_SIZE)
        self.running = False
        self._machine: Any = None
        self._wrong = ""  # why the core has to end

    def load(self, image: Image) -> None:
        """Puts an image in place. Raises Fault for a block that no memory takes."""
        self.reset()
        for address, data in image.blocks:
            self.write(address, data)

    def start(self, entry: int, application: int) -> None:
        """Runs what was loaded until it sleeps. application: its number, and its flags in bits 8 and up."""
        self._machine = self._build()
        self._machine.reg_write(arm.UC_ARM_REG_CPSR, MASK_IRQ | MASK_FIQ | SUPERVISOR)
        self._machine.reg_write(arm.UC_ARM_REG_R0, application)
        self.running = True
        self._run(entry)
        self.wake()

    def resume(self, registers: Sequence[int]) -> None:
        """Goes on asleep with what `registers` gave; memories and devices are in place."""
        self._machine = self._build()
        write_registers(self._machine, registers)
        self.running = True

    def registers(self) -> list[int]:
        """Of a core that sleeps; none of one that has ended."""
        return read_registers(self._machine) if self.running else []

    @property
    def memories(self) -> dict[str, mmap.mmap]:
        return {"itcm": self.itcm, "dtcm": self.dtcm}

    def stop(self) -> None:
        self.running = False
        self._machine = None

    def wake(self) -> None:
        """Takes every interrupt that is pending, until the core sleeps with none left."""
        while self.running and (pending := self.interrupts.pending()):
            if pending & self.interrupts.select:
                self._interrupt(FIQ_MODE, 0x1C, MASK_IRQ | MASK_FIQ)
            else:
                self._interrupt(IRQ_MODE, 0x18, MASK_IRQ)

    def listens(self) -> bool:
        """Whether timer 1 would interrupt this core."""
        return bool(self.interrupts.enabled >> TIMER_1 & 1)

    def read(self, address: int, size: int) -> bytes:
        """Memory as this core sees it. Raises Fault where there is none, as `write` does."""
        memory, offset = self._locate(address, size)
        return memory[offset : offset + size]

    def write(self, address: int, data: bytes) -> None:
        memory, offset = self._locate(address, len(data))
        memory[offset : offset + len(data)] = data

    def _locate(self, address: int, size: int) -> tuple[mmap.mmap, int]:
        if address >= DTCM and address + size <= DTCM + DTCM_SIZE:
            return self.dtcm, address - DTCM
        if address >= 0 and address + size <= ITCM_SIZE:
            return self.itcm, address
        found = self.chip.memory.locate(address, size)
        if found is None:
            raise Fault(f"{self.name}: no memory of {size} bytes at {address:#010x}.")
        return found

    def _copy(self, source: int, destination: int, length: int) -> None:
        self.write(destination, self.read(source, length))

    def _lines(self) -> int:
        return self.timers.lines() | self.packets.lines() | self.dma.lines() | self.chip.interrupted(self.number) << SYSTEM

    def _interrupt(self, mode: int, vector: int, masks: int) -> None:
        """What the processor does on an interrupt: its state goes to the mode's own registers, and it goes on at the vector."""
        state, place = self._machine.reg_read_batch((arm.UC_ARM_REG_CPSR, arm.UC_ARM_REG_PC))
        within = state & ~(MODE | THUMB) | mode | masks  # written first: the registers that follow are that mode's
        self._machine.reg_write_batch(((arm.UC_ARM_REG_CPSR, within), (arm.UC_ARM_REG_SPSR, state), (arm.UC_ARM_REG_LR, place + 4)))
        self._run(vector)

    def _run(self, place: int) -> None:
        """Runs ARM code from `place` until the core sleeps. What it cannot go along with ends this core, and the chip is told."""
        machine, stuck = self._machine, False
        try:
            stuck = not self.chip.watchdog.run(machine, place, NOWHERE)
        except unicorn.UcError as error:
            self._wrong = self._wrong or f"{error}."
        if stuck:
            self._wrong = f"it has not slept for {self.chip.watchdog.seconds:g} s."
        if self._wrong:
            self.running = False
            *registers, link, place = machine.reg_read_batch(FAILED_REGISTERS)
            fault = Fault(f"{self.name}, at {place:#010x} called from {link:#010x}: {self._wrong}")
            self.chip.failed(self.number, Failure(fault, (*registers, link), stuck))

    def _build(self) -> Any:
        machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_ARM)
        machine.ctl_set_cpu_model(arm.UC_CPU_ARM_946)
        for base, memory in ((ITCM, self.itcm), (DTCM, self.dtcm)):
            machine.mem_map_ptr(base, len(memory), unicorn.UC_PROT_ALL, _pointer(memory))
        for part in self.chip.memory.parts:
            for base in part.bases:
                machine.mem_map_ptr(base, part.size, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE, part.pointer)
        own: list[tuple[tuple[int, ...], Device]] = [
            ((0x10000000, 0x20000000), self.packets),
            ((0x11000000, 0x21000000), self.timers),
            ((0x1F000000, 0x2F000000, 0xFFFFF000), self.interrupts),
            ((0x30000000, 0x40000000), self.dma),
        ]
        for bases, device in own:
            for base in bases:
                self._map(machine, base, 1, device)
        for base, pages, device in self.chip.shared:
            self._map(machine, base, pages, device)
        machine.hook_add(unicorn.UC_HOOK_MEM_UNMAPPED, self._unmapped)
        return machine

    def _map(self, machine: Any, base: int, pages: int, device: Device) -> None:
        def read(machine: Any, offset: int, _size: int, _data: object) -> int:
            try:
                return device.read(offset)
            except Fault as error:
                self._refuse(machine, error, base)
                return 0

        def write(machine: Any, offset: int, _size: int, value: int, _data: object) -> None:
            try:
                device.write(offset, value)
            except Fault as error:
                self._refuse(machine, error, base)

        machine.mmio_map(base, pages * PAGE, read, None, write, None)

    def _refuse(self, machine: Any, error: Fault, base: int) -> None:
        self._wrong = error.at(base) if isinstance(error, UnknownRegister) else f"{error}"
        machine.emu_stop()

    def _unmapped(self, machine: Any, access: int, address: int, size: int, value: int, data: object) -> bool:
        written = f" ({value & 0xFFFFFFFF:#010x})" if access == unicorn.UC_MEM_WRITE_UNMAPPED else ""
        self._wrong = f"it {ACCESS[access]} {address:#010x}{written}, where there is neither memory nor a device."
        return False


def _pointer(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
