"""Every system of the zoo: module against exported graph, against its CPU bundle, against its Jetson graph."""

from __future__ import annotations

import numpy as np
import pytest

import edgeattn
from edgeattn.export.compare import check_graph
from edgeattn.export.graph import to_graph
from edgeattn.export.trace import trace
from edgeattn.models.registry import find, systems

DENSE = [name for name, reference in systems().items() if reference.targets != ("spinnaker",)]


@pytest.mark.parametrize("name", DENSE)
def test_the_exported_graph_computes_what_the_module_does(name):
    reference = find(name)
    samples = reference.evaluation().take(slice(0, 8))
    program = trace(reference, reference.calibration().take(slice(0, 2)).inputs)
    size = None if program.dynamic else len(next(iter(program.example.values())))
    assert check_graph(to_graph(program), program, [program.example, dict(samples.take(slice(0, size)).inputs)]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "jetson-orin-nano"])
@pytest.mark.parametrize("name", DENSE)
def test_a_bundle_passes_its_gate_and_verifies(name, target, tmp_path):
    reference = find(name)
    if target.split("-")[0] not in reference.targets:
        pytest.skip(f"{name} is not made for {target}")
    compilation = edgeattn.compile(reference.weights, target, model=name, output=tmp_path / "it.edge")
    assert compilation.manifest.passed
    assert edgeattn.verify(compilation.bundle).ok
    part = reference.evaluation().take(slice(0, 1))
    assert all(np.isfinite(output).all() for output in edgeattn.load(compilation.bundle).run(**part.inputs).values())
