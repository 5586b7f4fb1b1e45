"""An emulated board that answers over UDP while a test runs."""

from __future__ import annotations

import importlib.util
import itertools
import os
import threading

import pytest


@pytest.fixture(scope="session")
def new_host():
    """Gives addresses of this machine, which has the whole of 127, that no other process uses: not a user's board, nor tests beside these."""
    process, numbers = os.getpid(), itertools.count(2)
    return lambda: f"127.{1 + process // 256 % 254}.{process % 256}.{next(numbers)}"


@pytest.fixture(scope="module")
def spynnaker():
    """Skips where sPyNNaker, which brings the binaries, is not installed."""
    if importlib.util.find_spec("spynnaker") is None:
        pytest.skip("the binaries come with sPyNNaker: pip install 'edgeattn[board]'")


@pytest.fixture(scope="module")
def served(spynnaker, new_host):
    """A board at `served.host`, in a thread of this process."""
    from edgeattn.board.server import Server

    server = Server(new_host())
    thread = threading.Thread(target=server.serve, args=(300,), daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join()
    server.close()
