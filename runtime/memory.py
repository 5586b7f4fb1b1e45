"""Memory that nobody holds any more goes back to the system."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

LARGE_BLOCK = 4 * 1024 * 1024  # bytes
M_MMAP_THRESHOLD = -3  # glibc's malloc.h


def trim() -> None:
    """What the C library keeps of freed memory, in milliseconds; only glibc has a call for it, elsewhere nothing is done."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def give_back() -> None:
    """What Python keeps in cycles of references too: some tenths of a second beside the modules of a compile."""
    gc.collect()
    trim()


def give_back_large_blocks() -> None:
    """From here on, in the whole process, each large block of memory goes back once it is freed.

    By itself glibc learns from the first one freed to take others of up to 32 MB from its heap, where small ones keep the space behind them.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
