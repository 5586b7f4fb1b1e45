"""The APLX format: a table of blocks, four words each, that a core copies into place before it starts.

{1, destination, source, length}   copy from an absolute address
{2, destination, offset, length}   copy from this file, offset counted from the entry itself
{3, destination, length, value}    fill with a word
{4, address, 0, 0}                 start at the address
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata

from ..errors import InputError, MissingError

ENTRY = struct.Struct("<4I")
LARGEST = 128 << 20  # bytes: a chip's SDRAM
PACKAGES = ("sPyNNaker", "SpiNNFrontEndCommon")
COPY_ABSOLUTE, COPY, FILL, EXECUTE, END = 1, 2, 3, 4, 0xFF


@dataclass(frozen=True)
class Image:
    """blocks: (address, bytes) in the order of the file; entry: where the core starts."""

    blocks: tuple[tuple[int, bytes], ...]
    entry: int


def read_aplx(data: bytes, name: str = "the .aplx") -> Image:
    """The blocks of an .aplx. Raises InputError for a table that ends early, points outside the file, fills more than a chip has or
    holds an unknown command."""
    blocks: list[tuple[int, bytes]] = []
    for offset in range(0, len(data) - ENTRY.size + 1, ENTRY.size):
        command, first, second, third = ENTRY.unpack_from(data, offset)
        if command == COPY:
            start = offset + second
            if start + third > len(data):
                raise InputError(f"{name}: the block at {offset:#x} reaches to {start + third:#x}, the file ends at {len(data):#x}.")
            blocks.append((first, data[start : start + third]))
        elif command == FILL:
            if second % 4 or second > LARGEST:
                raise InputError(f"{name}: the fill at {offset:#x} is of {second:#x} bytes: not whole words, or more than {LARGEST:#x}.")
            blocks.append((first, struct.pack("<I", third) * (second // 4)))
        elif command == EXECUTE:
            return Image(tuple(blocks), first)
        else:
            what = "copies from an absolute address" if command == COPY_ABSOLUTE else "ends the table" if command == END else "is unknown"
            raise InputError(f"{name}: command {command:#x} at {offset:#x} {what}; read are relative copies, fills and a start address.")
    raise InputError(f"{name}: its table has no start address: it is no APLX file, or cut short.")


def origins() -> list[str]:
    """The packages that bring the binaries: name, version and licence of each. Raises MissingError where one is not installed."""
    lines = []
    for name in PACKAGES:
        try:
            about = metadata(name)
        except PackageNotFoundError:
            raise MissingError(f"the board's binaries come with {name}, which is not installed: pip install 'edgeattn[board]'.") from None
        lines.append(f"{name} {about['Version']} ({about['License-Expression' if 'License-Expression' in about else 'License']})")
    return lines
