"""Every system of the zoo: what the recipe quantises runs as integers in the engine, read back from the engine's own graph."""

from __future__ import annotations

import importlib.util

import pytest

import edgeattn
from edgeattn.models.registry import find, systems

ENGINES = ["onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])]
OPEN = {
    ("uniprefill", "openvino", "int8"): "OpenVINO computes it wrong in float32 already (54 points of accuracy lost), so its gate refuses it",
    ("wd_fqdet", "openvino", "int8"): "OpenVINO keeps the Haar wavelet's convolution, one of 39 layers, in float; the bundle says so",
}
DENSE = [name for name, reference in systems().items() if "cpu" in reference.targets]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", DENSE)
def test_no_layer_that_the_recipe_quantises_runs_in_float(name, engine, precision, tmp_path, request):
    if (name, engine, precision) in OPEN:
        request.applymarker(pytest.mark.xfail(reason=OPEN[name, engine, precision]))
    if (engine, precision) == ("openvino", "int8-dynamic"):
        pytest.skip("OpenVINO chooses dynamic quantisation itself, without scales of ours")
    manifest = edgeattn.compile(find(name).weights, model=name, engine=engine, precision=precision, output=tmp_path / "a.edge").manifest
    layers = manifest.integer_layers
    if not any(kind.startswith("int8") for kind in manifest.layers.values()):
        pytest.skip("its gate lets no layer of it be int8 on this engine")
    assert layers.integer_in_engine == layers.quantised
    assert layers.quantised == sum(kind.startswith("int8") for kind in manifest.layers.values())
