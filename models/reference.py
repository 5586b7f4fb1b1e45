"""`Reference`: what was trained. The one thing every later step is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..runtime.manifest import TensorSpec

if TYPE_CHECKING:
    from torch import nn

Module = TypeVar("Module", bound="nn.Module")


@dataclass(frozen=True)
class Samples:
    """Arrays by input name, all with the same leading axis (samples); `labels` (samples, ...) where there are any."""

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def truth(self) -> np.ndarray:
        """The labels, where the caller knows that there are some."""
        assert self.labels is not None
        return self.labels

    def take(self, index: Any) -> Samples:
        """The samples at `index` (a slice or an integer array)."""
        labels = None if self.labels is None else self.labels[index]
        return Samples({name: array[index] for name, array in self.inputs.items()}, labels)


@dataclass(frozen=True)
class Metric:
    """A task metric: `compute(outputs, labels)` over all samples, outputs in the network's order.

    tolerance: the largest loss against the reference that the gate accepts, in `unit`.
    """

    name: str
    unit: str
    compute: Callable[[Sequence[np.ndarray], np.ndarray], float]
    higher_is_better: bool = True
    tolerance: float = 0.5


@dataclass(frozen=True)
class Reference:
    """A trained network with everything needed to judge a copy of it.

    build: makes the untrained module, in eval mode or not; inputs: one `TensorSpec` per forward argument, in order,
    the leading axis being the batch; calibration / evaluation: held-apart data, loaded when called;
    task: "classification" (outputs are class scores on the last axis), "regression", or "embedding".
    paper / twin: the paper's full-size module, and the plain softmax-attention network of equal size.
    train: `train(seed=0, epochs=None, progress=None) -> (module, metric value)`.
    state: trained weights; where None, `weights` names the file that ships with the package.
    data: what it was trained and is judged on, in a few words.
    claim: what the paper says, with its figure; measure: measures that claim here, from the shipped weights and in seconds, as figures by name.
    reached: the metric on the evaluation data with the shipped weights; twin_weights: the twin's, trained on the same data.
    noise: between the best and the worst of several seeds in training, in the metric's unit; given where that was more than 3 points.
    twin_of: for a spiking twin, the system whose task it was trained on.
    batch: the samples of every call, where a program was exported with a fixed number.
    example: one batch of inputs, where the checkpoint itself brings them (a .pt2 program) or the user gave them.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    source: str
    task: str = "classification"
    data: str = ""
    claim: str = ""
    calibration: Callable[[], Samples] | None = None
    evaluation: Callable[[], Samples] | None = None
    metric: Metric | None = None
    twin: Callable[[], nn.Module] | None = None
    paper: Callable[[], nn.Module] | None = None
    train: Callable[..., tuple[nn.Module, float]] | None = None
    targets: tuple[str, ...] = ("cpu", "jetson")
    weights: Path | None = None
    measure: Callable[[], Mapping[str, float]] | None = None
    reached: float | None = None
    noise: float | None = None
    twin_weights: Path | None = None
    twin_of: str = ""
    batch: int | None = None
    example: Mapping[str, np.ndarray] | None = field(default=None, repr=False)
    state: Mapping[str, Any] | None = field(default=None, repr=False)

    def with_state(self, state: Mapping[str, Any]) -> Reference:
        """This reference with other weights."""
        return replace(self, state=state)

    def module(self) -> nn.Module:
        """A fresh module with the trained weights, in eval mode."""
        module = self.build()
        state = self.state
        if state is None and self.weights is not None:
            return with_weights(module, self.weights)
        if state is not None:
            module.load_state_dict(state)
        return module.eval()

    def trained_twin(self) -> nn.Module:
        """The softmax twin with its trained weights, in eval mode; for systems that ship them."""
        assert self.twin is not None and self.twin_weights is not None
        return with_weights(self.twin(), self.twin_weights)


def with_weights(module: Module, path: Path, strict: bool = True) -> Module:
    """The module itself with the weights of a shipped file, in eval mode; strict: the file has all of them."""
    import torch

    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=strict)
    module.eval()
    return module
