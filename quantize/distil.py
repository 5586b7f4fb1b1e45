"""Quantisation-aware training: the fake-quantised network learns to give the float one's outputs (Hinton et al., distillation)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import InputError
from ..export.trace import Program, trace
from ..models.reference import Reference, Samples
from .calibrate import BATCH, Quantised, other_parameters, quantise, quiet, read_layer
from .recipe import Recipe

TEMPERATURE = 2.0


def finetune(
    reference: Reference | Program,
    recipe: Recipe,
    samples: Samples | None = None,
    *,
    epochs: int = 4,
    rate: float = 2e-5,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Quantised:
    """Quantises as the recipe says, then trains the rounded network on the float network's outputs; no labels are needed.

    samples: inputs to distil on (the reference's calibration data by default). Classification minimises the Kullback-Leibler divergence at
    temperature 2, everything else the mean squared error. Gradients pass the rounding straight through (Bengio et al., arXiv 1308.3432).
    Raises InputError where there is nothing to train on or the loss leaves the finite numbers.
    """
    samples = samples or _calibration(reference)
    program = reference if isinstance(reference, Program) else trace(reference, {k: v[:2] for k, v in samples.inputs.items()})
    quantised = quantise(program, recipe, samples)
    before = other_parameters(quantised.network)
    targets = program.run(samples.inputs)
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    module = quantised.network
    parameters = [parameter.requires_grad_(True) for parameter in module.parameters() if parameter.is_floating_point()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    with quiet():
        for epoch in range(epochs):
            loss = _epoch(module, samples, targets, optimiser, program.reference.task, random)
            if not np.isfinite(loss):
                raise InputError(f"fine-tuning {program.reference.name} diverged in epoch {epoch + 1}: lower the rate (now {rate:g}).")
            if progress is not None:
                progress(f"epoch {epoch + 1} of {epochs}, distillation loss {loss:.4g}")
    module.eval()
    layers = {path: read_layer(module.get_submodule(path), layer.precision) for path, layer in quantised.layers.items()}
    learned = {name: value for name, value in other_parameters(module).items() if not np.array_equal(value, before[name])}
    return replace(quantised, layers=layers, tensors={**quantised.tensors, **learned}, module=module)


def _calibration(reference: Reference | Program) -> Samples:
    source = reference.reference if isinstance(reference, Program) else reference
    if source.calibration is None:
        raise InputError(f"{source.name} brings no data to distil on: pass samples.")
    return source.calibration()


def _epoch(
    module: nn.Module,
    samples: Samples,
    targets: list[np.ndarray],
    optimiser: torch.optim.Optimizer,
    task: str,
    random: np.random.Generator,
) -> float:
    total = 0.0
    order = random.permutation(len(samples))
    for start in range(0, len(samples), BATCH):
        index = order[start : start + BATCH]
        inputs: Mapping[str, torch.Tensor] = {name: torch.from_numpy(array[index]) for name, array in samples.inputs.items()}
        optimiser.zero_grad()
        loss = _distance(module(**inputs), torch.from_numpy(targets[0][index]), task)
        loss.backward()
        optimiser.step()
        total += len(index) * float(loss.detach())
    return total / len(samples)


def _distance(outputs: torch.Tensor | tuple[torch.Tensor, ...], target: torch.Tensor, task: str) -> torch.Tensor:
    first = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
    if task != "classification":
        return functional.mse_loss(first, target)
    log = functional.log_softmax(first / TEMPERATURE, -1)
    return TEMPERATURE**2 * functional.kl_div(log, functional.log_softmax(target / TEMPERATURE, -1), log_target=True, reduction="batchmean")
