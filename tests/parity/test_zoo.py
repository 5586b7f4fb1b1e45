"""Every system of the zoo: module against exported graph, against its CPU bundles, against its Jetson graph."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

import edgeattn
from edgeattn.devices import find_device
from edgeattn.export.compare import check_graph
from edgeattn.export.graph import to_graph
from edgeattn.export.trace import trace
from edgeattn.models.registry import find, systems
from edgeattn.runtime.machine import isa_flags
from edgeattn.targets.cpu.openvino import OPENVINO
from edgeattn.targets.cpu.passes.signs import saturates

HERE = find_device("cpu", isa_flags())[0]
BUNDLES = {
    "onnxruntime int8": {"precision": "int8"},
    "onnxruntime int8-dynamic": {"precision": "int8-dynamic"},
    "openvino int8": {"engine": "openvino", "precision": "int8"},
    "openvino int8 with attention": {"engine": "openvino", "recipe": replace(OPENVINO.recipe(HERE), between="attention")},
    "jetson": {"target": "jetson-orin-nano"},
}  # OpenVINO chooses dynamic quantisation itself, without scales of ours
DENSE = [name for name, reference in systems().items() if reference.targets != ("spinnaker",)]


@pytest.mark.parametrize("name", DENSE)
def test_the_exported_graph_computes_what_the_module_does(name):
    reference = find(name)
    samples = reference.evaluation().take(slice(0, 8))
    program = trace(reference, reference.calibration().take(slice(0, 2)).inputs)
    size = None if program.dynamic else len(next(iter(program.example.values())))
    assert check_graph(to_graph(program), program, [program.example, dict(samples.take(slice(0, size)).inputs)]) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1800)  # attention_mamba for jetson took 572 s on a busy Xeon
@pytest.mark.parametrize("kind", BUNDLES)
@pytest.mark.parametrize("name", DENSE)
def test_a_bundle_passes_its_gate_and_its_quantised_layers_are_integers(name, kind, tmp_path):
    reference, target = find(name), BUNDLES[kind].get("target", "cpu")
    if target.split("-")[0] not in reference.targets:
        pytest.skip(f"{name} is not made for {target}")
    if kind.startswith("openvino"):
        pytest.importorskip("openvino")
    if kind.endswith("attention") and saturates(isa_flags()):
        pytest.skip("needs a CPU with VNNI")
    compilation = edgeattn.compile(reference.weights, model=name, output=tmp_path / "it.edge", **BUNDLES[kind])
    assert compilation.manifest.passed
    if target == "cpu":
        check_integers(compilation.manifest)
    assert edgeattn.verify(compilation.bundle).ok
    part = reference.evaluation().take(slice(0, 1))
    assert all(np.isfinite(output).all() for output in edgeattn.load(compilation.bundle).run(**part.inputs).values())


def check_integers(manifest):
    """What the recipe quantises runs as integers, read back from the engine's own graph; the gate may have let no layer be int8."""
    quantised = sum(precision.startswith("int8") for precision in manifest.layers.values())
    if quantised:
        assert (manifest.integer_layers.quantised, manifest.integer_layers.integer_in_engine) == (quantised, quantised)
