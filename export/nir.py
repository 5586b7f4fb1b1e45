"""Spiking modules as NIR graphs (Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 2024).

NIR's LIF is an equation in time, tau dv/dt = v_leak - v + r i; a module that steps as m_t = beta m_(t-1) + i_t is its Euler step with
dt = 1 ms, tau = dt / (1 - beta), r = tau / dt. The reset by subtraction that our modules do is noted in the node's metadata, since NIR
leaves it open.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from torch import nn

from ..errors import InputError, MissingError

STEP = 1e-3  # s


def to_nir(module: Any) -> Any:
    """A `nir.NIRGraph`: Input, then synapses and LIF in turn, then Output.

    module: has `input_shape` and `layers()`, pairs of synapses (Conv2d or Linear without bias) and neurons with `beta` and `threshold`.
    Raises InputError that names a layer which NIR or this conversion cannot express.
    """
    nir = _nir()
    if not hasattr(module, "layers") or not hasattr(module, "input_shape"):
        raise InputError(f"{type(module).__name__} does not list its layers as pairs of synapses and neurons, which a spiking target needs.")
    shape = tuple(module.input_shape)
    nodes: dict[str, Any] = {"input": nir.Input(input_type={"input": np.array(shape)})}
    for index, (synapses, neurons) in enumerate(module.layers()):
        node, shape = _synapses(nir, synapses, shape, f"layer{index}")
        nodes[f"layer{index}.synapses"] = node
        if len(shape) > 1:
            nodes[f"layer{index}.flatten"] = nir.Flatten(start_dim=0, end_dim=-1, input_type={"input": np.array(shape)})
            shape = (int(np.prod(shape)),)
        nodes[f"layer{index}.neurons"] = _neurons(nir, neurons, shape, f"layer{index}")
    nodes["output"] = nir.Output(output_type={"output": np.array(shape)})
    names = list(nodes)
    return nir.NIRGraph(nodes=nodes, edges=list(pairwise(names)))


def _synapses(nir: Any, layer: nn.Module, shape: tuple[int, ...], name: str) -> tuple[Any, tuple[int, ...]]:
    if getattr(layer, "bias", None) is not None:
        raise InputError(f"{name}: a bias current is not supported by the spiking mapping: fold it into the thresholds or train without bias.")
    weight = layer.weight.detach().numpy().astype(np.float64)
    if isinstance(layer, nn.Linear):
        return nir.Linear(weight=weight), (weight.shape[0],)
    if isinstance(layer, nn.Conv2d):
        node = nir.Conv2d(
            input_shape=shape[1:], weight=weight, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups,
            bias=np.zeros(weight.shape[0]),
        )  # fmt: skip
        sizes = [
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(shape[1:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True)
        ]
        return node, (weight.shape[0], *sizes)
    raise InputError(f"{name}: {type(layer).__name__} has no spiking mapping; use Conv2d or Linear.")


def _neurons(nir: Any, layer: Any, shape: tuple[int, ...], name: str) -> Any:
    beta, threshold = float(layer.beta), float(layer.threshold)
    if not 0 < beta < 1:
        raise InputError(f"{name}: beta is {beta:g}; the spiking mapping needs a leak between 0 and 1.")
    if int(getattr(layer, "reset_mechanism_val", 0)) != 0:
        raise InputError(f"{name}: only reset by subtraction is mapped; this layer resets to zero or not at all.")
    tau = STEP / (1 - beta)
    ones = np.ones(shape)
    return nir.LIF(tau=tau * ones, r=tau / STEP * ones, v_leak=0 * ones, v_threshold=threshold * ones, metadata={"reset": "subtract"})


def _nir() -> Any:
    try:
        import nir
    except ImportError:
        raise MissingError("spiking targets need nir: pip install 'edgeattn[compile,spinnaker]'.") from None
    return nir
