"""Runs a spinnaker bundle on a SpiNNaker board (or sPyNNaker's virtual one) and compares the spikes with the bundle's golden counts.

usage: python run_on_board.py [--board ADDRESS | --virtual] [--samples N] [BUNDLE]
needs: pip install sPyNNaker safetensors numpy     BUNDLE: the bundle's folder (default: the one this file lies in)
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

SYSTEM = ("ChipPowerMonitorMachineVertex", "ExtraMonitorSupportMachineVertex", "DataSpeedUpPacketGatherMachineVertex")


def configure(folder, board):
    """sPyNNaker insists on a settings file in the home folder; it gets one of its own, and the user's stays as it is."""
    machine = f"machine_name = {board}\nversion = 5" if board else "version = 5\nvirtual_board = True"
    (Path(folder) / ".spynnaker.cfg").write_text(f"[Machine]\n{machine}\ntime_scale_factor = 1\n")
    os.environ["HOME"], os.environ["XDG_CONFIG_HOME"] = folder, str(Path(folder) / ".config")
    os.chdir(folder)


def build(sim, mapping, tensors, spike_times, every_step):
    """One population for every pair of ring-buffer shifts of a layer, so that each gets its own weight scale; returns them with their neurons."""
    source = sim.Population(mapping["inputs"], sim.SpikeSourceArray(spike_times=spike_times), label="input")
    parts = {"input": [(source, np.arange(mapping["inputs"]))]}
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
            population.initialize(v=layer["v_rest"])
            parts[layer["name"]].append((population, neurons))
    return parts


def connect(sim, mapping, tensors, parts):
    """Every projection between every pair of parts, split by sign into the two receptors."""
    for index, projection in enumerate(mapping["projections"]):
        weights = tensors[f"weights.{index}"].astype(np.float64)
        for before, rows in parts[projection["source"]]:
            for after, columns in parts[projection["target"]]:
                block = weights[np.ix_(rows, columns)]
                for receptor, part in (("excitatory", np.maximum(block, 0)), ("inhibitory", np.maximum(-block, 0))):
                    pre, post = np.nonzero(part)
                    if len(pre):
                        synapses = np.column_stack([pre, post, part[pre, post], np.full(len(pre), float(projection["delay"]))])
                        sim.Projection(before, after, sim.FromListConnector(synapses), receptor_type=receptor)


def mapped():
    """What the mapper used: cores of the network (system cores left out), and the chips they lie on."""
    from spynnaker.pyNN.data import SpynnakerDataView

    placements = [place for place in SpynnakerDataView.iterate_placemements() if type(place.vertex).__name__ not in SYSTEM]
    kinds = {}
    for place in placements:
        kinds[type(place.vertex).__name__] = kinds.get(type(place.vertex).__name__, 0) + 1
    return {"cores": len(placements), "chips": len({(place.x, place.y) for place in placements}), "kinds": kinds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default=Path(__file__).resolve().parent.parent, type=Path)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--board", help="the board's address")
    where.add_argument("--virtual", action="store_true", help="map, place and route only; no neuron runs")
    parser.add_argument("--samples", type=int, default=16)
    arguments = parser.parse_args()
    bundle = arguments.bundle.resolve()
    mapping = json.loads((bundle / "mapping.json").read_text())
    tensors, golden = load_file(bundle / "weights.safetensors"), load_file(bundle / "golden.safetensors")
    events = next(array for key, array in golden.items() if key.startswith("input."))[: arguments.samples]
    expected = next(array for key, array in golden.items() if key.startswith("artifact."))[: arguments.samples]
    steps = events.shape[1]
    period = steps + mapping["steps_after"] + 200  # a pause between samples, until every current has decayed
    frames = events.reshape(len(events), steps, -1)
    spike_times = [[float(n * period + t) for n, t in zip(*np.nonzero(frames[:, :, pixel]))] for pixel in range(mapping["inputs"])]  # noqa: B905
    every_step = [float(n * period + t) for n in range(len(events)) for t in range(steps)]
    configure(tempfile.mkdtemp(prefix="edgeattn-board-"), arguments.board)
    import pyNN.spiNNaker as sim

    sim.setup(timestep=1.0)
    parts = build(sim, mapping, tensors, spike_times, every_step)
    connect(sim, mapping, tensors, parts)
    readout = parts[mapping["readout"]]
    for population, _ in readout:
        population.record("spikes")
    sim.run(len(events) * period)
    used = mapped()
    counts = np.zeros_like(expected)
    for population, neurons in readout:
        for neuron, train in zip(neurons, population.get_data("spikes").segments[-1].spiketrains):  # noqa: B905
            np.add.at(counts[:, neuron], (np.asarray(train, float) // period).astype(int), 1)
    sim.end()
    if arguments.virtual:
        print(json.dumps({"mapped": used, "ran": False, "note": "the virtual board maps, places and routes; it runs no neuron"}))
        return 0
    same = float(np.mean(counts.argmax(1) == expected.argmax(1)))
    identical = float(np.mean((counts == expected).all(1)))
    print(json.dumps({"mapped": used, "ran": True, "samples": len(events), "agreement": same, "identical": identical}))
    return 0 if same == 1.0 else 1


if __name__ == "__main__":
    sys.exit(main())
