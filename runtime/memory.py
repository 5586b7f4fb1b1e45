"""What becomes of memory that is freed: glibc's own rules, for a compile, a device's session or a training, are changed here. Elsewhere they stay."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt(3)
LARGE_BLOCK = 4 * 1024 * 1024  # bytes


def trim() -> None:
    """What the C library keeps of freed memory goes back to the system, in milliseconds."""
    _glibc("malloc_trim", 0)


def give_back() -> None:
    """What Python keeps in cycles of references too: some tenths of a second beside the modules of a compile."""
    gc.collect()
    trim()


def give_back_large_blocks() -> None:
    """From here on, in the whole process, each large block goes back once it is freed.

    By itself glibc learns from the first one freed to take others of up to 32 MB from its heap, where small ones keep the space behind them.
    """
    _glibc("mallopt", MMAP_THRESHOLD, LARGE_BLOCK)


def keep_freed_memory() -> None:
    """For the rest of the process: what a training step frees is kept for the next one.

    glibc gives large blocks back to the kernel at once, and every step faults them in again: 15 to 26 % of the time of training sign_language.
    """
    _glibc("mallopt", MMAP_MAX, 0)
    _glibc("mallopt", TRIM_THRESHOLD, 2**31 - 1)


def _glibc(name: str, *arguments: int) -> None:
    with suppress(AttributeError, OSError, TypeError):  # other C libraries lack it
        getattr(ctypes.CDLL(None), name)(*arguments)
