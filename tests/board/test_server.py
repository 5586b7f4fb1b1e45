"""Unmodified sPyNNaker against the emulated board over UDP: it finds the machine, loads, runs and reads back."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("unicorn", reason="emulated cores need unicorn: pip install 'edgeattn[board]'")

from edgeattn.board.machine import SHORTEST, Machine
from edgeattn.board.monitor import OK, Monitor, Request
from edgeattn.board.server import Server
from edgeattn.runtime.emulator import Board, Emulator, Population, Projection

SCRIPT = """
import json, os, sys
from pathlib import Path
folder, host = sys.argv[1:]
(Path(folder) / ".spynnaker.cfg").write_text(f"[Machine]\\nversion = 5\\nmachine_name = {host}\\n")
os.environ["HOME"], os.environ["XDG_CONFIG_HOME"] = folder, folder + "/.config"
os.chdir(folder)
import pyNN.spiNNaker as sim
sim.setup(timestep=1.0)
source = sim.Population(4, sim.SpikeSourceArray(spike_times=[[1.0, 5.0], [2.0], [3.0], [4.0, 8.0]]))
cells = sim.IF_curr_exp(tau_m=10.0, cm=1.0, tau_syn_E=5.0, tau_syn_I=3.0, v_rest=-65.0, v_reset=-65.0, v_thresh=-60.0, tau_refrac=1.0, i_offset=0.0)
neurons = sim.Population(10, cells, max_expected_summed_weight=[24.0, 1.5])
neurons.initialize(v=-65.0)
synapses = [(before, after, 1.0 + 0.5 * after, 1) for before in range(4) for after in range(10)]
sim.Projection(source, neurons, sim.FromListConnector(synapses), receptor_type="excitatory")
neurons.record("spikes")
sim.run(13)
print("PAUSED", flush=True)
sys.stdin.readline()
sim.run(17)
print("SPIKES", json.dumps([[float(time) for time in train] for train in neurons.get_data("spikes").segments[0].spiketrains]))
sim.end()
"""


def test_unmodified_spynnaker_loads_runs_pauses_resumes_and_reads_back_the_emulators_spikes(served, tmp_path):
    done = script(tmp_path, served.host)
    assert spikes_of(done.stdout) == emulated_spikes(), done.stderr[-1500:]


def script(folder, host):
    command = [sys.executable, "-c", SCRIPT, str(folder), host]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False)


def spikes_of(printed):
    """By neuron, when it fired, as the script printed it."""
    found = next((line for line in printed.splitlines() if line.startswith("SPIKES")), None)
    assert found, printed[-1500:]
    return json.loads(found.removeprefix("SPIKES "))


def emulated_spikes():
    """The same of the emulator."""
    shifts = np.array([[5] * 10, [1] * 10])
    cells = Population("neurons", 10, 10.0, 1.0, 5.0, 3.0, -65.0, -65.0, -60.0, 1.0, shifts)
    weights = np.tile(1.0 + 0.5 * np.arange(10), (4, 1))
    spikes = np.zeros((1, 29, 4), np.uint8)
    for source, times in enumerate(([1, 5], [2], [3], [4, 8])):
        spikes[0, times, source] = 1
    emulated = Emulator(Board(4, (cells,), (Projection("input", "neurons", weights),), "neurons", 1)).run(spikes).spikes["neurons"][0]
    assert emulated.sum() > 20
    return [np.flatnonzero(train).tolist() for train in emulated.T]


@pytest.mark.slow
def test_spynnaker_does_not_notice_that_the_board_is_saved_and_another_goes_on(spynnaker, new_host, tmp_path):
    host, state = new_host(), tmp_path / "board.state"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), host]

    def serve(server, until):
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        result = until()
        server.stop()
        thread.join()
        server.save(state)
        server.close()
        return result

    def paused(lines):
        assert "PAUSED\n" in lines, "the script ended before its first pause"

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        serve(Server(host), lambda: paused(run.stdout))
        printed = serve(Server(host, state=state), lambda: run.communicate("\n", timeout=100)[0])
    assert spikes_of(printed) == emulated_spikes()


@pytest.mark.slow
def test_spynnaker_reports_a_core_that_fails_in_a_run_by_its_registers(served, tmp_path, monkeypatch):
    step = served.machine.step

    def broken():
        cores = [core for core in served.machine.cores() if core.listens() and core.timers.first.load >= SHORTEST]
        for core in cores[:1]:
            core.interrupts.vectors = [0x48000000] * 16
        step()

    monkeypatch.setattr(served.machine, "step", broken)
    done = script(tmp_path, served.host)
    assert done.returncode
    assert "RUN_TIME_EXCEPTION:DABT" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def monitor():
    return Monitor(Machine([(0, 0), (1, 0)]), (127, 0, 0, 1))


def ask(monitor, command, *arguments, data=b"", place=(0, 0)):
    padded = (*arguments, 0, 0, 0)[:3]
    return monitor.answer(Request(monitor.machine.chips[place], command, padded, data, ("127.0.0.1", 1)))


def test_what_is_written_is_read(monitor):
    assert ask(monitor, 3, 0x60100000, 4, 2, data=b"abcd") == (OK, b"")
    assert ask(monitor, 2, 0x70100000, 4, 2) == (OK, b"abcd")
    assert ask(monitor, 5, 0x60100000, 0x01020304, 8) == (OK, b"")
    assert ask(monitor, 2, 0x60100004, 4, 2) == (OK, bytes([4, 3, 2, 1]))


def test_a_routing_table_is_allocated_loaded_and_freed(monitor):
    entries = struct.pack("<4I", 0, 1 << 7, 0x10, 0xF0) + struct.pack("<4I", 1, 1 << 8, 0x20, 0xF0)
    ask(monitor, 3, 0x67800000, len(entries), 2, data=entries)
    code, answer = ask(monitor, 28, 16 << 8 | 3, 2)
    base = struct.unpack("<I", answer)[0]
    assert ask(monitor, 29, 2 << 16 | 16 << 8 | 2, 0x67800000, base)[0] == code == OK
    router = monitor.machine.chips[0, 0].router
    assert (router.route(0x13), router.route(0x2F), router.route(0x30)) == (1 << 7, 1 << 8, None)
    monitor.signal(2, 16)
    assert router.route(0x13) is None
    assert monitor.machine.chips[0, 0].table.largest() == 1023
