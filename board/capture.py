"""What sPyNNaker generates for a mapped network, taken from its virtual board: `python -m edgeattn.board.capture FOLDER STEPS`.

FOLDER holds a spinnaker bundle's mapping.json and weights.safetensors; the network is built by the bundle's own run_on_board.py. Written beside them:
`specification.sqlite3` (the data regions of every core, as sPyNNaker stores them) and `cores.json` (binaries, keys, routes). A process of its own,
because sPyNNaker keeps one simulator a process and reads its settings from the home folder.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

SCRIPT = Path(__file__).parents[1] / "targets" / "spinnaker" / "run_on_board.py"


def board_kit() -> Any:
    """The script that bundles carry, loaded as a bundle would run it: by itself, without the packages that compile one."""
    specification = importlib.util.spec_from_file_location("run_on_board", SCRIPT)
    assert specification and specification.loader
    kit = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(kit)
    return kit


RECORDED = ("v", "gsyn_exc", "gsyn_inh", "spikes")


def settings(kit: Any, folder: Path) -> None:
    """A virtual version 5 board that keeps the generated data."""
    kit.configure(str(folder), None)
    with (folder / ".spynnaker.cfg").open("a") as file:
        file.write("[Reports]\nkeep_data_spec_database = True\n")


def cores(view: Any) -> list[dict[str, Any]]:
    """Every application core: its place, binary, label and atoms, the expanders it needs first, and the keys of its spikes."""
    from spinn_front_end_common.utilities.utility_objs import ExecutableType  # type: ignore[import-untyped]
    from spynnaker.pyNN.models.abstract_models import AbstractNeuronExpandable, AbstractSynapseExpandable, ColouredApplicationVertex

    routing, found = view.get_routing_infos(), []
    for placement in view.iterate_placemements():
        vertex = placement.vertex
        if vertex.get_binary_start_type() == ExecutableType.SYSTEM:
            continue
        expanders = []
        if isinstance(vertex, AbstractNeuronExpandable) and vertex.gen_neurons_on_machine():
            expanders.append(["neuron_expander.aplx", vertex.neuron_generator_region])
        if isinstance(vertex, AbstractSynapseExpandable) and vertex.gen_on_machine():
            expanders.append(["synapse_expander.aplx", vertex.connection_generator_region])
        keys = [info.key for info in routing if info.vertex is vertex]
        coloured = isinstance(vertex.app_vertex, ColouredApplicationVertex)
        found.append(
            {
                "place": [placement.x, placement.y, placement.p],
                "binary": str(view.get_executable_path(vertex.get_binary_file_name())),
                "label": vertex.app_vertex.label,
                "atoms": [vertex.vertex_slice.lo_atom, vertex.vertex_slice.n_atoms],
                "expanders": [[str(view.get_executable_path(name)), int(region)] for name, region in expanders],
                "key": keys[0] if keys else None,
                "colour_bits": vertex.app_vertex.n_colour_bits if coloured else 0,
            }
        )
    return found


def routes(view: Any) -> list[list[int]]:
    """x, y, key, mask and route of every entry of every routing table, in the order of the tables."""
    tables = view.get_uncompressed().routing_tables
    return [[t.x, t.y, entry.key, entry.mask, entry.spinnaker_route] for t in tables for entry in t.multicast_routing_entries]


def main(folder: Path, steps: int) -> None:
    mapping, tensors = json.loads((folder / "mapping.json").read_text()), load_file(folder / "weights.safetensors")
    kit = board_kit()
    settings(kit, folder)
    import pyNN.spiNNaker as sim
    from spynnaker.pyNN.data import SpynnakerDataView

    sim.setup(timestep=1.0)
    spread = [[float(pixel % steps)] for pixel in range(mapping["inputs"])]  # sPyNNaker takes no silent sources; their cores are not run
    parts = kit.build(sim, mapping, tensors, spread, [0.0])
    kit.connect(sim, mapping, tensors, parts)
    neurons = {}
    for layer in mapping["populations"]:
        for population, members in parts[layer["name"]]:
            population.record(list(RECORDED))
            neurons[population.label] = [layer["name"], members.tolist()]
    for source in ("input", "always on"):
        for population, members in parts.get(source, []):
            neurons[population.label] = [source, members.tolist()]
    sim.run(steps)
    report = {"steps": steps, "cores": cores(SpynnakerDataView), "routes": routes(SpynnakerDataView), "neurons": neurons}
    shutil.copy(SpynnakerDataView.get_ds_database_path(), folder / "specification.sqlite3")
    (folder / "cores.json").write_text(json.dumps(report))
    sim.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
