"""Memory that the cores of a chip and the host share: one mapping in this process, seen by every emulated core at the same addresses.

SDRAM (128 MB) appears at 0x60000000 and 0x70000000, system RAM (32 kB) at 0xe5000000 and 0xf5000000: with and without a write buffer,
which makes no difference here.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

from ..errors import MissingError
from .faults import Fault

SDRAM, SDRAM_SIZE = (0x60000000, 0x70000000), 128 << 20
SYSTEM_RAM, SYSTEM_RAM_SIZE = (0xE5000000, 0xF5000000), 32 << 10


class Memory:
    """`size` bytes of zeros at each of `bases`; only pages that were touched take room."""

    def __init__(self, bases: tuple[int, ...], size: int) -> None:
        self.bases, self.size = bases, size
        self._file = open(os.memfd_create("board"), "r+b") if hasattr(os, "memfd_create") else None  # noqa: SIM115 - open as long as this lives
        if self._file:
            self._file.truncate(size)
        self.bytes = mmap.mmap(self._file.fileno() if self._file else -1, size)
        self._view = ctypes.c_char.from_buffer(self.bytes)
        self.pointer = ctypes.addressof(self._view)

    def touched(self) -> list[tuple[int, int]]:
        """(offset, size) of every stretch that holds pages; all others are zeros. Raises MissingError where the system cannot tell."""
        if not self._file:
            raise MissingError("saving a board's state needs Linux, which tells the memory that was touched from the rest.")
        stretches, end = [], 0
        while end < self.size:
            try:
                start = os.lseek(self._file.fileno(), end, os.SEEK_DATA)
            except OSError:  # none is left
                break
            end = os.lseek(self._file.fileno(), start, os.SEEK_HOLE)
            stretches.append((start, end - start))
        return stretches


class SharedMemory:
    """A chip's SDRAM and system RAM by address."""

    def __init__(self) -> None:
        self.sdram, self.system_ram = Memory(SDRAM, SDRAM_SIZE), Memory(SYSTEM_RAM, SYSTEM_RAM_SIZE)
        self.parts = (self.sdram, self.system_ram)

    def locate(self, address: int, size: int) -> tuple[mmap.mmap, int] | None:
        """(the mapping, the offset in it) of `size` bytes at an address, None where there is no shared memory."""
        for part in self.parts:
            for base in part.bases:
                if base <= address and address + size <= base + part.size:
                    return part.bytes, address - base
        return None

    def _located(self, address: int, size: int) -> tuple[mmap.mmap, int]:
        found = self.locate(address, size)
        if found is None:
            raise Fault(f"no shared memory of {size} bytes at {address:#010x}.")
        return found

    def read(self, address: int, size: int) -> bytes:
        """Raises Fault outside SDRAM and system RAM, as `write` does."""
        memory, offset = self._located(address, size)
        return memory[offset : offset + size]

    def write(self, address: int, data: bytes) -> None:
        memory, offset = self._located(address, len(data))
        memory[offset : offset + len(data)] = data

    def word(self, address: int) -> int:
        return struct.unpack("<I", self.read(address, 4))[0]

    def set_word(self, address: int, value: int) -> None:
        self.write(address, struct.pack("<I", value & 0xFFFFFFFF))

    def byte(self, address: int) -> int:
        return self.read(address, 1)[0]

    def set_byte(self, address: int, value: int) -> None:
        self.write(address, bytes([value & 0xFF]))
