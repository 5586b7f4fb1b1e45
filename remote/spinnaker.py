"""`verify --host` of a spinnaker bundle: its own device/run_on_board.py, started here, drives the board over Ethernet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..errors import MissingError
from ..runtime.bundle import Bundle

SCRIPT = "device/run_on_board.py"


def verify_on_spinnaker(bundle: Bundle, host: str) -> dict[str, Any]:
    """What `verify --json` prints: the readout's classes on the golden events, board against emulator. Raises MissingError where the board cannot be
    reached or sPyNNaker is not installed."""
    done = subprocess.run([sys.executable, str(Path(bundle.path) / SCRIPT), "--board", host], capture_output=True, text=True, check=False)
    report = next((line for line in reversed(done.stdout.splitlines()) if line.startswith('{"mapped"')), None)
    if report is None:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise MissingError(f"{SCRIPT} gave no result on {host}: {said[-1].removeprefix('error: ')}")
    run: dict[str, Any] = json.loads(report)
    detail = (
        f"{run['samples']} samples: same class {run['agreement']:.1%}, same counts {run['identical_counts']:.1%}, "
        f"same spikes in every step {run['identical_trains']:.1%}"
    )
    return {"ok": run["agreement"] == 1.0, "checks": [{"name": "board", "ok": run["agreement"] == 1.0, "detail": detail}], "parity": None, "run": run}
