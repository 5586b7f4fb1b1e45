"""An emulated board that answers over UDP while a test runs."""

from __future__ import annotations

import importlib.util
import threading

import pytest

HOST = "127.0.0.41"  # the whole of 127 is this machine; a user's own board may be running at 127.0.0.1


@pytest.fixture(scope="module")
def spynnaker():
    """Skips where sPyNNaker, which brings the binaries, is not installed."""
    if importlib.util.find_spec("spynnaker") is None:
        pytest.skip("the binaries come with sPyNNaker: pip install 'edgeattn[board]'")


@pytest.fixture(scope="module")
def served(spynnaker):
    """A board at `served.host`, in a thread of this process."""
    from edgeattn.board.server import Server

    server = Server(HOST)
    thread = threading.Thread(target=server.serve, args=(300,), daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join()
    server.close()
