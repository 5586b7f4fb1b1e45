"""A NIR graph as what a neuromorphic target needs to know of it: spiking neurons, and the linear synapses between them.

    i_t = sum over sources of s_t W + b        everything linear between two neurons is one matrix; layers act within the same step
    c_t = alpha c_(t-1) + i_t                  synaptic current, alpha = 0 for LIF
    m_t = beta m_(t-1) + c_t - reset           membrane; z_t = [m_t > theta]

NIR leaves time steps open: equations are taken as Euler steps, beta = 1 - dt/tau, as snnTorch and Norse do. Its own equation resets to v_reset;
`metadata={"reset": "subtract"}` on a node says that theta is taken off in the next step, `"hold"` that the step after a spike stays at v_reset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ..errors import InputError
from ..runtime.emulator import ALWAYS

STEP = 1e-3  # s
LINEAR = ("Linear", "Affine", "Conv2d", "Scale", "AvgPool2d", "SumPool2d", "Flatten", "Output")
SPIKING = ("LIF", "IF", "CubaLIF", "Threshold")
Reset = Literal["subtract", "value", "hold"]


@dataclass(frozen=True)
class Synapses:
    """weights: (pre, post) of one source, "input" or the name of a neuron node."""

    source: str
    weights: np.ndarray


@dataclass(frozen=True)
class Neurons:
    """One population. alpha, beta: leaks per step; value: where "value" and "hold" reset to; bias: (size,) a step; depth: layers from the input."""

    name: str
    size: int
    alpha: float
    beta: float
    threshold: float
    reset: Reset
    value: float
    inputs: tuple[Synapses, ...]
    bias: np.ndarray
    depth: int

    @property
    def memoryless(self) -> bool:
        """A coincidence detector: it fires by what arrives now."""
        return self.alpha == 0 and self.beta == 0 and self.reset == "value" and self.value == 0


@dataclass(frozen=True)
class Network:
    """neurons: in the order of the signal; readout: the one whose spikes are counted; assumed: those whose file leaves their reset open."""

    inputs: int
    neurons: tuple[Neurons, ...]
    readout: str
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """One step of one population: who fired, its membrane, and the excitatory and inhibitory sums that arrived (samples, size)."""

    name: str
    step: int
    fired: np.ndarray
    membrane: np.ndarray
    arrived: tuple[np.ndarray, np.ndarray]


def network_of(graph: Any, step: float = STEP, reset: Reset | None = None) -> Network:
    """Raises InputError that names the node which has no meaning here: unknown kinds, loops, mixed parameters, unset weights.

    step: seconds a step; reset: how neurons reset whose node leaves it open.
    """
    return _Reader(graph, step, reset).read()


def simulate(network: Network, spikes: np.ndarray) -> Iterator[Seen]:
    """The network in float64 on (samples, steps, inputs); yields population after population, step after step."""
    trains = {"input": spikes.astype(np.float64)}
    samples, steps, _ = spikes.shape
    for neurons in network.neurons:
        shape = (samples, neurons.size)
        current, membrane, fired = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
        parts = [(synapses.source, np.maximum(synapses.weights, 0), np.maximum(-synapses.weights, 0)) for synapses in neurons.inputs]
        train = np.zeros((samples, steps, neurons.size))
        for at in range(steps):
            excitatory: np.ndarray = np.maximum(neurons.bias, 0) + sum(trains[name][:, at] @ weights for name, weights, _ in parts)
            inhibitory: np.ndarray = np.maximum(-neurons.bias, 0) + sum(trains[name][:, at] @ weights for name, _, weights in parts)
            current = neurons.alpha * current + excitatory - inhibitory
            if neurons.reset == "subtract":
                inhibitory = inhibitory + neurons.threshold * fired
                membrane = neurons.beta * membrane + current - neurons.threshold * fired
            else:
                moved = neurons.beta * np.where(fired, neurons.value, membrane) + current
                membrane = np.where(fired, neurons.value, moved) if neurons.reset == "hold" else moved
            fired = membrane > neurons.threshold
            train[:, at] = fired
            yield Seen(neurons.name, at, fired, membrane, (np.broadcast_to(excitatory, shape), np.broadcast_to(inhibitory, shape)))
        trains[neurons.name] = train


def spike_counts(network: Network, spikes: np.ndarray) -> np.ndarray:
    """Spikes of each readout neuron over the window, (samples, classes) float32."""
    seen = [part.fired for part in simulate(network, spikes) if part.name == network.readout]
    return np.asarray(np.sum(seen, axis=0, dtype=np.float32))


class _Reader:
    def __init__(self, graph: Any, step: float, reset: Reset | None) -> None:
        self.nodes, self.step, self.reset = graph.nodes, step, reset
        self.sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.sources[target].append(source)
        self.found: dict[str, Neurons] = {}

    def read(self) -> Network:
        for name, node in self.nodes.items():
            if type(node).__name__ not in (*LINEAR, *SPIKING, "Input"):
                raise InputError(f"node {name} ({type(node).__name__}) has no mapping: use {', '.join((*LINEAR[:-2], *SPIKING))}.")
        inputs = [name for name, node in self.nodes.items() if type(node).__name__ == "Input"]
        outputs = [name for name, node in self.nodes.items() if type(node).__name__ == "Output"]
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(f"the spiking graph has {len(inputs)} inputs and {len(outputs)} outputs; one of each is mapped.")
        for name in self.nodes:
            if type(self.nodes[name]).__name__ in SPIKING and _plain(name) in ("input", ALWAYS):
                raise InputError(f"node {name}: this name is kept for the source of spikes, give the neurons another.")
        last = self.sources[outputs[0]]
        if len(last) != 1 or type(self.nodes[last[0]]).__name__ not in SPIKING:
            raise InputError(f"the output is fed by {', '.join(last) or 'nothing'}: the spiking graph must end in one layer of spiking neurons.")
        self._neurons(last[0], ())
        (shape,) = self.nodes[inputs[0]].input_type.values()
        ordered = sorted(self.found.values(), key=lambda neurons: neurons.depth)
        # The reset does not matter where nothing remembers it.
        unsaid = [] if self.reset else [key for key, n in self.found.items() if n.beta and "reset" not in (self.nodes[key].metadata or {})]
        return Network(int(np.prod(shape)), tuple(ordered), _plain(last[0]), tuple(sorted(unsaid)))

    def _neurons(self, name: str, above: tuple[str, ...]) -> Neurons:
        if name in above:
            raise InputError(f"node {name} feeds itself through {' -> '.join(above[above.index(name) :])}: recurrent graphs are not mapped.")
        if name in self.found:
            return self.found[name]
        node = self.nodes[name]
        matrices, bias = self._arriving(name, (*above, name))
        if not matrices:
            raise InputError(f"node {name} receives nothing.")
        depth = 1 + max(0 if source == "input" else self.found[source].depth for source in matrices)
        threshold, gain, alpha, beta, reset, value, constant = _parameters(name, node, self.step, self.reset)
        size = len(bias)
        synapses = tuple(Synapses(_plain(source), weights * gain) for source, weights in matrices.items())
        made = Neurons(_plain(name), size, alpha, beta, threshold, reset, value, synapses, bias * gain + constant, depth)
        self.found[name] = made
        return made

    def _arriving(self, name: str, above: tuple[str, ...]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """What reaches node `name`: one matrix a spiking source, and the bias on the way."""
        total: dict[str, np.ndarray] = {}
        bias = np.zeros(1)
        for source in self.sources[name]:
            node = self.nodes[source]
            kind = type(node).__name__
            if kind in SPIKING:
                self._neurons(source, above)
            if kind in ("Input", *SPIKING):
                parts, offset = {"input" if kind == "Input" else source: np.eye(_size(node))}, np.zeros(_size(node))
            else:
                if source in above:
                    raise InputError(f"node {source} lies on a loop: recurrent graphs are not mapped.")
                before, arrived = self._arriving(source, (*above, source))
                matrix, added = _linear(source, node, self._shape(source), len(arrived))
                parts, offset = {key: _through(value, matrix) for key, value in before.items()}, _through(arrived[None], matrix)[0] + added
            for key, value in parts.items():
                if key in total and total[key].shape != value.shape:
                    raise InputError(f"node {name} adds inputs of {total[key].shape[1]} and {value.shape[1]} neurons.")
                total[key] = total[key] + value if key in total else value
            if len(bias) > 1 and len(bias) != len(offset):
                raise InputError(f"node {name} adds inputs of {len(bias)} and {len(offset)} neurons.")
            bias = bias + offset
        return total, bias

    def _shape(self, name: str) -> tuple[int, ...]:
        """The shape that reaches a linear node, by the nearest node before it that knows one."""
        for source in self.sources[name]:
            node = self.nodes[source]
            types = getattr(node, "output_type", None) or {}
            value = next(iter(types.values()), None)
            if value is not None and None not in np.ravel(value).tolist():
                return tuple(int(size) for size in np.ravel(value))
            return self._shape(source)
        return ()


def _through(value: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    return value if matrix is None else value @ matrix


def _linear(name: str, node: Any, shape: tuple[int, ...], width: int) -> tuple[np.ndarray | None, np.ndarray]:
    """(matrix (in, out) or None for the identity, bias) of one linear node."""
    kind = type(node).__name__
    for field in ("weight", "bias", "scale"):
        if not np.isfinite(np.asarray(getattr(node, field, 0.0), np.float64)).all():
            raise InputError(f"node {name}: {field} holds NaN or infinity.")
    if kind == "Flatten":
        return None, np.zeros(width)
    if kind == "Scale":
        scale = np.ravel(node.scale)
        return np.diag(np.broadcast_to(scale, width) if scale.size == 1 else np.broadcast_to(node.scale, shape).ravel()), np.zeros(width)
    if kind in ("Linear", "Affine"):
        weight = np.asarray(node.weight, np.float64)
        if weight.shape[1] != width:
            raise InputError(f"node {name} ({kind}) takes {weight.shape[1]} inputs and receives {width}.")
        return weight.T, np.asarray(getattr(node, "bias", np.zeros(len(weight))), np.float64)
    return _image(name, node, shape, width)


def _image(name: str, node: Any, shape: tuple[int, ...], width: int) -> tuple[np.ndarray, np.ndarray]:
    """A convolution or pooling as the dense matrix of its synapses, found by pushing unit impulses through it."""
    size = tuple(int(v) for v in np.ravel(node.input_shape)[-2:]) if getattr(node, "input_shape", None) is not None else shape[-2:]
    if len(size) != 2 or width % int(np.prod(size)):
        raise InputError(f"node {name} ({type(node).__name__}) does not know the image it reads: {width} inputs, image {size}.")
    impulses = torch.eye(width, dtype=torch.float64).reshape(width, -1, *size)
    options = {key: tuple(int(v) for v in np.broadcast_to(getattr(node, key), 2)) for key in ("stride", "padding")}
    if type(node).__name__ == "Conv2d":
        weight = torch.from_numpy(np.asarray(node.weight, np.float64))
        if impulses.shape[1] != weight.shape[1] * node.groups:
            raise InputError(f"node {name} (Conv2d) takes {weight.shape[1] * node.groups} channels and receives {impulses.shape[1]}.")
        dilation = tuple(int(v) for v in np.broadcast_to(node.dilation, 2))
        made = torch.nn.functional.conv2d(impulses, weight, groups=node.groups, dilation=dilation, **options)
        bias = np.asarray(node.bias, np.float64) if node.bias is not None else np.zeros(len(weight))
        return made.flatten(1).numpy(), np.repeat(bias, made[0, 0].numel())
    kernel = tuple(int(v) for v in np.broadcast_to(node.kernel_size, 2))
    made = torch.nn.functional.avg_pool2d(impulses, kernel, **options)
    if type(node).__name__ == "SumPool2d":
        made = made * kernel[0] * kernel[1]
    return made.flatten(1).numpy(), np.zeros(made[0].numel())


def _parameters(name: str, node: Any, step: float, unsaid: Reset | None) -> tuple[float, float, float, float, Reset, float, float]:
    """(threshold, gain of the input, alpha, beta, reset, reset value, constant input a step)."""
    kind = type(node).__name__
    if kind == "Threshold":
        return _uniform(name, node, "threshold"), 1.0, 0.0, 0.0, "value", 0.0, 0.0
    threshold, value = _uniform(name, node, "v_threshold"), _uniform(name, node, "v_reset")
    reset: Reset = (node.metadata or {}).get("reset", unsaid or "value")
    if reset not in ("subtract", "value", "hold"):
        raise InputError(f"node {name}: its metadata name the reset {reset!r}; known are subtract, value and hold.")
    r = _uniform(name, node, "r")
    if kind == "IF":
        return threshold, r * step, 0.0, 1.0, reset, value, 0.0
    beta = _leak(name, node, "tau_mem" if kind == "CubaLIF" else "tau", step)
    constant = (1 - beta) * _uniform(name, node, "v_leak")
    if kind == "LIF":
        return threshold, r * (1 - beta), 0.0, beta, reset, value, constant
    alpha = _leak(name, node, "tau_syn", step)
    if constant and alpha:
        raise InputError(f"node {name}: a CubaLIF with v_leak other than 0 is not mapped.")
    return threshold, r * (1 - beta) * (1 - alpha) * _uniform(name, node, "w_in"), alpha, beta, reset, value, constant


def _leak(name: str, node: Any, field: str, step: float) -> float:
    tau = _uniform(name, node, field)
    if not tau >= step * (1 - 1e-9):
        raise InputError(f"node {name}: {field} is {tau:g} s, shorter than the time step of {step:g} s: give the step it was made with (--timestep).")
    return max(0.0, 1 - step / tau)


def _uniform(name: str, node: Any, field: str) -> float:
    array = np.asarray(getattr(node, field), np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"node {name}: {field} holds NaN or infinity.")
    if array.size and np.ptp(array) > 1e-6 * max(1e-12, float(np.abs(array).max())):
        raise InputError(f"node {name}: {field} differs between neurons, which the mapping does not take.")
    return float(array.flat[0])


def _size(node: Any) -> int:
    return int(np.prod(next(iter(node.output_type.values()))))


def _plain(name: str) -> str:
    return name.removesuffix(".neurons")
