"""Ends code that never sleeps: an endless loop in a binary would otherwise stop the whole board without a word.

The only wall clock here: it decides when to give up, and nothing of what a core computes.
"""

from __future__ import annotations

import threading
import time
from typing import Any

PATIENCE = 60.0  # seconds; the sign network's cores and their expanders were seen to sleep within 0.02


class Watchdog:
    """Of one machine, whose cores run one at a time. seconds: how long code may run; it is ended after at most twice that."""

    def __init__(self, seconds: float = PATIENCE) -> None:
        self.seconds = seconds
        self._turn, self._ended = 0, -1
        self._machine: Any = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, machine: Any, place: int, until: int) -> bool:
        """Emulates from `place`; False where the code had to be ended."""
        with self._lock:
            self._turn, self._machine = self._turn + 1, machine
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()
        try:
            machine.emu_start(place, until)
        finally:
            with self._lock:
                self._machine = None
        return self._ended != self._turn

    def _watch(self) -> None:
        """Goes on as long as there is something to watch."""
        while True:
            seen = self._turn
            time.sleep(self.seconds)
            with self._lock:
                if seen != self._turn:
                    continue
                if self._machine is None:
                    self._thread = None
                    return
                self._ended = seen
                self._machine.emu_stop()
