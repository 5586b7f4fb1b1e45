"""`edgeattn verify BUNDLE --host` of a spinnaker bundle on the emulated board: the bundle's own script, unmodified, through sPyNNaker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("unicorn", reason="emulated cores need unicorn: pip install 'edgeattn[board]'")
pytest.importorskip("nir", reason="spiking targets need nir: pip install 'edgeattn[spinnaker]'")

import edgeattn
from edgeattn.cli import main
from edgeattn.models.fingerspelling import letters
from edgeattn.models.registry import weights_file
from edgeattn.remote.run import verify_on

NIR = Path(__file__).parents[1] / "targets" / "nir"
ALL_EQUAL = "same class 100.0%, same counts 100.0%, same spikes in every step 100.0%"


@pytest.fixture
def nir_bundle(tmp_path):
    """A file of snnTorch's, compiled on its own events."""
    np.savez(tmp_path / "events.npz", events=np.concatenate([np.load(NIR / "snntorch.npz")["events"]] * 5))
    options = {"calib": tmp_path / "events.npz", "output": tmp_path / "n.edge", "timestep": 1e-4, "reset": "subtract"}
    return edgeattn.compile(NIR / "snntorch.nir", "spinnaker", **options).bundle


@pytest.mark.slow
def test_a_bundle_has_every_spike_of_its_emulator_on_the_board(served, nir_bundle):
    result = verify_on(nir_bundle, served.host)
    assert result["ok"]
    assert ALL_EQUAL in result["checks"][0]["detail"]


@pytest.mark.slow
def test_the_sign_network_verifies_on_a_board_started_by_command(spynnaker, new_host, tmp_path):
    samples = letters(60, seed=4)
    np.savez(tmp_path / "letters.npz", events=samples.inputs["events"], labels=samples.labels)
    options = {"calib": tmp_path / "letters.npz", "output": tmp_path / "sign.edge", "force": True}
    bundle = edgeattn.compile(weights_file("sign_language"), "spinnaker", **options).bundle
    host = new_host()
    command = [sys.executable, "-m", "edgeattn", "board", "--host", host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as board:
        assert f"48 chips at {host}" in board.stdout.readline()
        run = CliRunner().invoke(main, ["verify", str(bundle), "--host", host, "--json"])
        board.send_signal(signal.SIGTERM)
        said = board.stdout.read()
    assert run.exit_code == 0, run.output
    assert ALL_EQUAL in json.loads(run.stdout)["checks"][0]["detail"]
    assert "of real time" in said
