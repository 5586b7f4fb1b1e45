"""Models of PyNN's on the emulated board, each its own binary, next to what their equations say, without our emulator."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("unicorn", reason="emulated cores need unicorn: pip install 'edgeattn[board]'")

STEPS = 120
SCRIPT = """
import json, os, sys
from pathlib import Path
folder, host, steps = sys.argv[1:]
(Path(folder) / ".spynnaker.cfg").write_text(f"[Machine]\\nversion = 5\\nmachine_name = {host}\\n")
os.environ["HOME"], os.environ["XDG_CONFIG_HOME"] = folder, folder + "/.config"
os.chdir(folder)
import numpy as np
import pyNN.spiNNaker as sim
sim.setup(timestep=1.0)
cell = dict(tau_m=20.0, cm=1.0, v_rest=-65.0, v_reset=-65.0, tau_refrac=2.0)
driven = sim.Population(10, sim.IF_curr_exp(v_thresh=-50.0, i_offset=[0.2 * k for k in range(10)], **cell), label="driven")
pulse = sim.Population(1, sim.SpikeSourceArray(spike_times=[10.0]), label="pulse")
conductance = sim.IF_cond_exp(v_thresh=0.0, tau_syn_E=5.0, tau_syn_I=5.0, e_rev_E=0.0, e_rev_I=-80.0, i_offset=0.0, **cell)
conducting = sim.Population(10, conductance, label="conducting")
sim.Projection(pulse, conducting, sim.FromListConnector([(0, k, 0.01 * k, 1.0) for k in range(10)]), receptor_type="excitatory")
noise = sim.Population(10, sim.SpikeSourcePoisson(rate=200.0), label="noise", additional_parameters={"seed": 3})
for population in (driven, conducting):
    population.initialize(v=-65.0)
    population.record(["v", "spikes"])
noise.record("spikes")
sim.run(int(steps))
found = {}
for population in (driven, conducting, noise):
    segment = population.get_data().segments[0]
    found[population.label] = {"spikes": [[float(time) for time in train] for train in segment.spiketrains]}
    for signal in segment.analogsignals:
        found[population.label][signal.name] = np.asarray(signal).T.tolist()
print("FOUND", json.dumps(found))
sim.end()
"""


@pytest.fixture(scope="module")
def found(served, tmp_path_factory):
    """Spikes in ms and membranes in mV, by population and neuron."""
    folder = str(tmp_path_factory.mktemp("examples"))
    done = subprocess.run([sys.executable, "-c", SCRIPT, folder, served.host, str(STEPS)], capture_output=True, text=True, timeout=200, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("FOUND")), None)
    assert line, done.stdout[-1500:] + done.stderr[-1500:]
    return json.loads(line.removeprefix("FOUND "))


def test_a_constant_current_charges_the_membrane_and_fires_on_the_step_that_its_equation_says(found):
    for k in range(10):
        end = -65 + 20 * 0.2 * k  # R I above rest
        level, spikes, v, waiting = [], [], -65.0, 0
        for step in range(STEPS):
            level.append(v)
            if waiting:
                waiting -= 1
                continue
            v = end + (v - end) * np.exp(-1 / 20)
            if v >= -50:
                spikes.append(step)
                v, waiting = -65.0, 2
        assert found["driven"]["spikes"][k] == spikes
        np.testing.assert_allclose(found["driven"]["v"][k], level, atol=0.02)
    assert sum(map(len, found["driven"]["spikes"])) > 20


def test_a_conductance_pulse_is_the_solution_of_its_differential_equation(found):
    fine = 100  # steps of integration a millisecond
    for k in range(1, 10):
        v, g, level = -65.0, 0.0, []
        for step in range(STEPS):
            level.append(v)
            g += 0.01 * k if step == 11 else 0.0
            for _ in range(fine):
                v += ((-65 - v) / 20 + g * (0 - v)) / fine
                g *= np.exp(-1 / (5 * fine))
        rise = np.max(level) + 65
        np.testing.assert_allclose(found["conducting"]["v"][k], level, atol=0.05 * rise)
    np.testing.assert_allclose(found["conducting"]["v"][0], -65, atol=0.01)
    assert not any(found["conducting"]["spikes"])


def test_poisson_sources_fire_at_their_rate(found):
    counts = [len(train) for train in found["noise"]["spikes"]]
    expected = 10 * 200 * STEPS / 1000
    assert abs(sum(counts) - expected) < 4 * np.sqrt(expected)
    assert len(set(counts)) > 3
