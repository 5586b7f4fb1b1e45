"""Spiking modules as NIR graphs, and NIR files as modules (Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 2024).

NIR's LIF is an equation in time, tau dv/dt = v_leak - v + r i; a module that steps as m_t = beta m_(t-1) + i_t is its Euler step with
dt = 1 ms, tau = dt / (1 - beta), r = tau / dt. NIR resets to v_reset; how our modules reset is noted in the node's metadata (`network.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import InputError, MissingError, first_line
from .network import STEP, Network, Reset, network_of, spike_counts

RESETS = {0: "subtract", 1: "hold"}  # snnTorch's reset_mechanism_val; "zero" there also discards the input of the next step


def to_nir(module: Any, shape: tuple[int, ...] | None = None) -> Any:
    """A `nir.NIRGraph` with one input and one output.

    module: one of `models/spiking.py`, wired by name; a `NirModule`, which keeps its graph; or any module whose synapses (Conv2d, Linear) and
    neurons (snnTorch's Leaky or Synaptic, or alike) follow one another in the order of their registration: the gate compares what they compute.
    shape: of one step of events, where the module does not say it. Raises InputError that names a layer without a form in NIR.
    """
    if isinstance(module, NirModule):
        return module.graph
    nir = _nir()
    wiring = module.wiring() if hasattr(module, "wiring") else _in_order(module)
    shape = tuple(getattr(module, "input_shape", None) or shape or ())
    nodes: dict[str, Any] = {"input": nir.Input(input_type={"input": np.array(shape)})}
    edges, shapes = [], {"input": shape}
    for name, wire in wiring.items():
        for index, (source, synapses) in enumerate(wire.inputs):
            last, shapes[name] = "input" if source == "input" else f"{source}.neurons", shapes[source]
            if synapses is not None:
                label = f"{name}.synapses" + (f".{index}" if index else "")
                nodes[label], shapes[name] = _synapses(nir, synapses, shapes[source], name)
                if isinstance(synapses, nn.Linear) and len(shapes[source]) > 1:
                    nodes[f"{label}.flatten"] = nir.Flatten(start_dim=0, end_dim=-1, input_type={"input": np.array(shapes[source])})
                    edges.append((last, f"{label}.flatten"))
                    last = f"{label}.flatten"
                edges.append((last, label))
                last = label
            edges.append((last, f"{name}.neurons"))
        nodes[f"{name}.neurons"] = _neurons(nir, wire.neurons, shapes[name], name)
    nodes["output"] = nir.Output(output_type={"output": np.array(shapes[name])})
    edges.append((f"{name}.neurons", "output"))
    return nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)


class NirModule(nn.Module):
    """A NIR graph as a module: events (batch, steps, ...) → spike counts (batch, classes), in float64 by `network.simulate`."""

    def __init__(self, graph: Any, network: Network) -> None:
        super().__init__()
        self.graph, self.network = graph, network

    def forward(self, events: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(spike_counts(self.network, events.flatten(2).numpy()))


def read_nir(path: Path, step: float = STEP, reset: Reset | None = None) -> NirModule:
    """The module of a .nir file; step: seconds of one step of the framework that wrote it; reset: how its neurons reset, where it does not say.

    Raises InputError for what is no NIR graph.
    """
    nir = _nir()
    try:
        graph = nir.read(path, type_check=False)
    except Exception as error:  # h5py and nir raise whatever they meet in a broken file
        raise InputError(f"{path} is no readable NIR file ({first_line(error, 200)}).") from None
    return NirModule(graph, network_of(graph, step, reset))


def input_shape(graph: Any) -> tuple[int, ...]:
    """The shape of one step of a graph's input."""
    node = next(node for node in graph.nodes.values() if type(node).__name__ == "Input")
    (shape,) = node.input_type.values()
    return tuple(int(size) for size in shape)


def _in_order(module: nn.Module) -> dict[str, Any]:
    """Synapses and neurons that follow one another, as wires; InputError where they do not."""
    from ..models.spiking import Wire

    found: dict[str, Any] = {}
    waiting, source = None, "input"
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            if waiting is not None:
                raise InputError(f"{name}: two layers of synapses without neurons between them are not mapped; {name} follows another one.")
            waiting = layer
        elif hasattr(layer, "beta") and hasattr(layer, "threshold"):
            found[name.replace(".", "_")] = Wire(layer, [(source, waiting)])
            waiting, source = None, name.replace(".", "_")
    if not found or waiting is not None:
        raise InputError(
            f"{type(module).__name__} does not end in spiking neurons (a layer with beta and threshold, such as snnTorch's Leaky), "
            "which a spiking target reads out."
        )
    return found


def _synapses(nir: Any, layer: nn.Module, shape: tuple[int, ...], name: str) -> tuple[Any, tuple[int, ...]]:
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        raise InputError(f"{name}: {type(layer).__name__} has no spiking mapping; use Conv2d or Linear.")
    weight = layer.weight.detach().numpy().astype(np.float64)
    bias = None if layer.bias is None else layer.bias.detach().numpy().astype(np.float64)
    if isinstance(layer, nn.Linear):
        return nir.Linear(weight=weight) if bias is None else nir.Affine(weight=weight, bias=bias), (weight.shape[0],)
    if len(shape) == 2:
        shape = (1, *shape)
    node = nir.Conv2d(
        input_shape=shape[1:], weight=weight, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups,
        bias=np.zeros(weight.shape[0]) if bias is None else bias,
    )  # fmt: skip
    sizes = [
        (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for size, pad, dilation, kernel, stride in zip(shape[1:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True)
    ]
    return node, (weight.shape[0], *sizes)


def _neurons(nir: Any, layer: Any, shape: tuple[int, ...], name: str) -> Any:
    ones = np.ones(shape)
    if not hasattr(layer, "beta"):
        return nir.Threshold(threshold=float(layer.threshold) * ones)
    beta, threshold = _scalar(layer.beta, name, "beta"), _scalar(layer.threshold, name, "threshold")
    if not 0 <= beta < 1:
        raise InputError(f"{name}: beta is {beta:g}; the spiking mapping needs a leak between 0 and 1.")
    kind = int(getattr(layer, "reset_mechanism_val", 0))
    if kind not in RESETS:
        raise InputError(f"{name}: neurons that never reset are not mapped; this layer's reset_mechanism is none.")
    tau, metadata = STEP / (1 - beta), {"reset": RESETS[kind]}
    common = {"r": tau / STEP * ones, "v_leak": 0 * ones, "v_threshold": threshold * ones, "metadata": metadata}
    if not hasattr(layer, "alpha"):
        return nir.LIF(tau=tau * ones, **common)
    slow = STEP / (1 - _scalar(layer.alpha, name, "alpha"))
    return nir.CubaLIF(tau_syn=slow * ones, tau_mem=tau * ones, w_in=slow / STEP * ones, **common)


def _scalar(value: Any, name: str, field: str) -> float:
    array = np.asarray(value.detach() if hasattr(value, "detach") else value, np.float64)
    if np.ptp(array) > 1e-9:
        raise InputError(f"{name}: {field} differs between neurons, which the mapping does not take.")
    return float(array.flat[0])


def _nir() -> Any:
    try:
        import nir
    except ImportError:
        raise MissingError("spiking targets need nir: pip install 'edgeattn[compile,spinnaker]'.") from None
    return nir
