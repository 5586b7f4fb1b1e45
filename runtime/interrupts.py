"""Ctrl-C that waits for an import to end.

A library that is interrupted while its C++ part loads aborts the process, or fails as if it were not installed
(pybind11 turns the KeyboardInterrupt into an ImportError).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 0.05  # seconds until a held interrupt is tried again


@contextmanager
def interrupts_after_imports() -> Iterator[None]:
    """Within it Ctrl-C raises KeyboardInterrupt as usual, but during an import only when that has ended, or at the second Ctrl-C.

    What a library makes of that KeyboardInterrupt leaves as one again.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield  # only the main thread of a POSIX process can hold a signal
        return
    held = raised = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal held, raised
        if _importing(frame) and not (held and number == signal.SIGINT):
            held = True
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
            return
        raised = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
    except Exception as error:
        if raised:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
