"""A NIR graph as what the board needs to know of it: a chain of dense weights and leaky neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError
from ...export.nir import STEP


@dataclass(frozen=True)
class Layer:
    """m_t = beta m_(t-1) + s_t W - threshold z_(t-1), z = [m > threshold]. weights: (pre, post)."""

    name: str
    weights: np.ndarray
    beta: float
    threshold: float


def chain_of(graph: Any) -> list[Layer]:
    """The layers in the order of the signal; raises InputError that names a node the mapping does not know."""
    layers: list[Layer] = []
    weights: np.ndarray | None = None
    for name in _order(graph):
        node = graph.nodes[name]
        kind = type(node).__name__
        if kind in ("Input", "Output", "Flatten"):
            continue
        if kind == "Linear":
            weights = np.asarray(node.weight, np.float64).T
        elif kind == "Conv2d":
            weights = _dense(node, name)
        elif kind == "LIF" and weights is not None:
            layers.append(_layer(name, node, weights))
            weights = None
        else:
            raise InputError(f"node {name} ({kind}) has no mapping to SpiNNaker: use Linear, Conv2d and LIF in turn.")
    if not layers or weights is not None:
        raise InputError("the spiking graph must end in a LIF layer, which is read out.")
    return layers


def _order(graph: Any) -> list[str]:
    """Node names from Input to Output; InputError where the graph is no chain."""
    following: dict[str, str] = {}
    for source, target in graph.edges:
        if source in following:
            raise InputError(f"node {source} feeds {following[source]} and {target}: only chains are mapped.")
        following[source] = target
    name: str | None = next(key for key, node in graph.nodes.items() if type(node).__name__ == "Input")
    order: list[str] = []
    while name is not None and len(order) <= len(graph.nodes):
        order.append(name)
        name = following.get(name)
    if len(order) != len(graph.nodes):
        raise InputError(f"the spiking graph is no chain from input to output ({len(order)} of {len(graph.nodes)} nodes reached, or a loop).")
    return order


def _layer(name: str, node: Any, weights: np.ndarray) -> Layer:
    tau, r, leak, threshold = (_uniform(name, field, getattr(node, field)) for field in ("tau", "r", "v_leak", "v_threshold"))
    if leak != 0:
        raise InputError(f"node {name}: v_leak is {leak:g}; the mapping needs 0.")
    if (node.metadata or {}).get("reset") != "subtract":
        raise InputError(f"node {name}: its reset is not known to be a subtraction; a network that resets to a value needs another mapping.")
    beta = 1 - STEP / tau
    return Layer(name.removesuffix(".neurons"), weights * (r * STEP / tau), beta, threshold)


def _uniform(name: str, field: str, values: Any) -> float:
    array = np.asarray(values, np.float64)
    if array.size and np.ptp(array) > 1e-12 * max(1.0, float(np.abs(array).max())):
        raise InputError(f"node {name}: {field} differs between neurons, which the mapping does not take.")
    return float(array.flat[0])


def _dense(node: Any, name: str) -> np.ndarray:
    """A convolution as the dense matrix of its synapses, (inputs, outputs), found by pushing unit impulses through it."""
    import torch

    if np.any(np.asarray(node.bias)):
        raise InputError(f"node {name}: a convolution with bias is not mapped.")
    rows, columns = (int(size) for size in node.input_shape)
    weight = torch.from_numpy(np.asarray(node.weight, np.float64))
    channels = weight.shape[1] * node.groups
    impulses = torch.eye(channels * rows * columns, dtype=torch.float64).reshape(-1, channels, rows, columns)
    options = {key: tuple(int(v) for v in np.broadcast_to(getattr(node, key), 2)) for key in ("stride", "padding", "dilation")}
    return torch.nn.functional.conv2d(impulses, weight, groups=node.groups, **options).flatten(1).numpy()
