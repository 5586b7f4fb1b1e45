"""Runs a spinnaker bundle on a SpiNNaker board (or sPyNNaker's virtual one) and compares the spikes with those of the bundle's emulator.

usage: python run_on_board.py [--board ADDRESS | --virtual] [--samples N] [--events FILE.npz] [BUNDLE]
needs: pip install sPyNNaker safetensors numpy     BUNDLE: the bundle's folder (default: the one this file lies in)
"""

import argparse
import atexit
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

SYSTEM = ("ChipPowerMonitorMachineVertex", "ExtraMonitorSupportMachineVertex", "DataSpeedUpPacketGatherMachineVertex")


def configure(folder, board):
    """sPyNNaker insists on a settings file in the home folder; it gets one of its own, and the user's stays as it is."""
    # An emulated board may be slower than real time: sPyNNaker would give it up five seconds late.
    machine = f"machine_name = {board}\nversion = 5\npost_simulation_overrun_before_error = 3600" if board else "version = 5\nvirtual_board = True"
    (Path(folder) / ".spynnaker.cfg").write_text(f"[Machine]\n{machine}\n")
    os.environ["HOME"], os.environ["XDG_CONFIG_HOME"] = folder, str(Path(folder) / ".config")
    os.chdir(folder)


def build(sim, mapping, tensors, spike_times, every_step):
    """PyNN populations with the neurons that each holds, by layer: one for every pair of ring-buffer shifts, so that each gets its weight scale."""
    parts = {"input": []}
    for part in range(mapping["input_parts"]):  # a busy input is dealt out, so that no core sends too many packets in one step
        pixels = np.arange(part, mapping["inputs"], mapping["input_parts"])
        source = sim.SpikeSourceArray(spike_times=[spike_times[pixel] for pixel in pixels])
        parts["input"].append((sim.Population(len(pixels), source, label=f"input.{part}"), pixels))
    if any(projection["source"] == "always on" for projection in mapping["projections"]):  # biases
        always = sim.Population(1, sim.SpikeSourceArray(spike_times=[every_step]), label="always on")
        parts["always on"] = [(always, np.arange(1))]
    for layer in mapping["populations"]:
        shifts, member = np.unique(tensors[f"shifts.{layer['name']}"], axis=1, return_inverse=True)
        parts[layer["name"]] = []
        for group in range(shifts.shape[1]):
            neurons = np.flatnonzero(np.ravel(member) == group)
            parameters = {key: layer[key] for key in ("tau_m", "cm", "v_rest", "v_reset", "v_thresh", "tau_refrac")}
            model = sim.IF_curr_exp(tau_syn_E=layer["tau_syn_e"], tau_syn_I=layer["tau_syn_i"], i_offset=0.0, **parameters)
            # sPyNNaker takes the shift s for an expected sum between 2^(s-1) and 2^s (population_vertex.py, get_ring_buffer_shifts).
            expected = [0.75 * 2.0**s for s in shifts[:, group]]
            population = sim.Population(len(neurons), model, label=f"{layer['name']}.{group}", max_expected_summed_weight=expected)
            population.set_max_atoms_per_core(layer["per_core"])
            population.initialize(v=layer["v_rest"])
            parts[layer["name"]].append((population, neurons))
    return parts


def connect(sim, mapping, tensors, parts):
    """Every projection between every pair of parts, split by sign into the two receptors."""
    for index, projection in enumerate(mapping["projections"]):
        weights = np.zeros(projection["shape"])  # in nA; stored whole, or as the list of its synapses
        if f"weights.{index}" in tensors:
            weights[:] = tensors[f"weights.{index}"]
        else:
            weights[tuple(tensors[f"synapses.{index}"])] = tensors[f"values.{index}"]
        for before, rows in parts[projection["source"]]:
            for after, columns in parts[projection["target"]]:
                block = weights[np.ix_(rows, columns)]
                for receptor, part in (("excitatory", np.maximum(block, 0)), ("inhibitory", np.maximum(-block, 0))):
                    pre, post = np.nonzero(part)
                    if len(pre):
                        synapses = np.column_stack([pre, post, part[pre, post], np.full(len(pre), float(projection["delay"]))])
                        sim.Projection(before, after, sim.FromListConnector(synapses), receptor_type=receptor)


def mapped():
    """What the mapper used for the network (system cores left out): cores, chips, SDRAM of the cores with neurons, routing entries."""
    from spynnaker.pyNN.data import SpynnakerDataView

    placements = [place for place in SpynnakerDataView.iterate_placemements() if type(place.vertex).__name__ not in SYSTEM]
    neurons = [place.vertex for place in placements if type(place.vertex).__name__.startswith("Population")]
    tables = {(table.x, table.y): table.number_of_entries for table in SpynnakerDataView.get_uncompressed().routing_tables}
    return {
        "cores": len(placements),
        "chips": len({(place.x, place.y) for place in placements}),
        "sdram_bytes": sum(int(vertex.sdram_required.fixed) for vertex in neurons),
        "routing_entries": max(tables.values()),
    }


def reach(sim, board, seconds):
    """Asks the board for its chips, and gives up with one sentence; sPyNNaker alone would try for minutes."""

    def late(signum, frame):
        raise TimeoutError(f"no answer within {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        sim.get_machine()
    except Exception as error:  # spinnman raises whatever it meets
        reason = str(error).splitlines()[0]
        print(f"error: board {board} cannot be reached ({reason}; {seconds} s allowed): check power, cable and address.", file=sys.stderr, flush=True)
        shutil.rmtree(os.environ["HOME"], ignore_errors=True)  # _exit runs no handlers
        os._exit(2)
    signal.alarm(0)


def read_back(parts, shape, period):
    """The readout's spikes (samples, steps, classes), and how many fell outside the steps that are compared."""
    trains, outside = np.zeros(shape, np.uint8), 0
    for population, neurons in parts:
        for neuron, train in zip(neurons, population.get_data("spikes").segments[-1].spiketrains):  # noqa: B905
            sample, step = np.divmod(np.rint(np.asarray(train, float)).astype(int), period)
            inside = (step < shape[1]) & (sample < shape[0])
            trains[sample[inside], step[inside], neuron] = 1
            outside += int((~inside).sum())
    return trains, outside


def simulate(arguments, mapping, tensors, frames):
    """What is reported of the run, and the readout's spikes (samples, steps, classes)."""
    import pyNN.spiNNaker as sim

    samples, steps = frames.shape[:2]
    period = steps + mapping["steps_after"] + 200  # a pause between samples, until every current has decayed
    spike_times = [[float(n * period + t) for n, t in zip(*np.nonzero(frames[:, :, pixel]))] for pixel in range(mapping["inputs"])]  # noqa: B905
    every_step = [float(n * period + t) for n in range(samples) for t in range(steps)]
    sim.setup(timestep=1.0, time_scale_factor=mapping["time_scale"])
    if arguments.board:
        reach(sim, arguments.board, arguments.timeout)
    parts = build(sim, mapping, tensors, spike_times, every_step)
    connect(sim, mapping, tensors, parts)
    for population, _ in parts[mapping["readout"]]:
        population.record("spikes")
    started = time.perf_counter()
    sim.run(samples * period)
    report = {"mapped": mapped(), "ran": not arguments.virtual, "samples": samples, "seconds_with_loading": time.perf_counter() - started}
    classes = next(layer["size"] for layer in mapping["populations"] if layer["name"] == mapping["readout"])
    trains, report["spikes_outside_window"] = read_back(parts[mapping["readout"]], (samples, steps + mapping["steps_after"], classes), period)
    sim.end()
    return report, trains


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default=Path(__file__).resolve().parent.parent, type=Path)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--board", help="the board's address")
    where.add_argument("--virtual", action="store_true", help="map, place and route only; no neuron runs")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--events", type=Path, help="frames (n, steps, ...) of your own, the first array of an .npz; prints their counts")
    parser.add_argument("--timeout", type=int, default=60, help="seconds until a board that does not answer is given up")
    arguments = parser.parse_args()
    bundle = arguments.bundle.resolve()
    mapping, tensors = json.loads((bundle / "mapping.json").read_text()), load_file(bundle / "weights.safetensors")
    golden = load_file(bundle / "golden.safetensors") if arguments.events is None else dict(np.load(arguments.events))
    events = next(array for key, array in golden.items() if arguments.events or key.startswith("input."))[: arguments.samples]
    frames = events.reshape(*events.shape[:2], -1)
    folder = tempfile.mkdtemp(prefix="edgeattn-board-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # before sPyNNaker is imported: its own handlers, which run first, write there
    configure(folder, arguments.board)
    report, trains = simulate(arguments, mapping, tensors, frames)
    counts = trains.sum(1)
    if arguments.virtual:
        report["note"] = "the virtual board maps, places and routes; it runs no neuron"
    elif arguments.events:
        report |= {"counts": counts.tolist(), "classes": counts.argmax(1).tolist()}
    else:
        expected = load_file(bundle / "trains.safetensors")["readout"][: arguments.samples]
        report["agreement"] = float(np.mean(counts.argmax(1) == expected.sum(1).argmax(1)))
        report["identical_counts"] = float(np.mean((counts == expected.sum(1)).all(1)))
        report["identical_trains"] = float(np.mean((trains == expected).all((1, 2))))
    print(json.dumps(report))
    return 0 if report.get("agreement", 1.0) == 1.0 else 1


if __name__ == "__main__":
    sys.exit(main())
