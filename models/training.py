"""One training loop for every system: seeded, device-agnostic, best state by a validation split of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from .reference import Reference, Samples

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Progress = Callable[[str, int, int], None]


def fit(
    module: nn.Module,
    train: Samples,
    validation: Samples,
    loss: Loss,
    epochs: int,
    *,
    seed: int = 0,
    rate: float = 1e-3,
    batch: int = 64,
    decay: float = 0.05,
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Trains in place with AdamW and a cosine schedule after 5 % of warm-up; returns the module at its best validation loss.

    loss(outputs, labels) is averaged over a batch; augment changes each training input anew. The same seed on the same machine gives
    the same weights.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    device = next(module.parameters()).device
    optimiser = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=decay)
    steps = epochs * ((len(train) + batch - 1) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps, pct_start=0.05)
    best, best_state = np.inf, copy.deepcopy(module.state_dict())
    for epoch in range(epochs):
        module.train()
        order = random.permutation(len(train))
        for start in range(0, len(train), batch):
            part = train.take(order[start : start + batch])
            optimiser.zero_grad()
            inputs = tensors(part.inputs, device)
            if augment is not None:
                inputs = {name: augment(tensor) for name, tensor in inputs.items()}
            value = loss(module(**inputs), torch.from_numpy(part.labels).to(device))
            value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        current = evaluate(module, validation, loss)
        if current < best:
            best, best_state = current, copy.deepcopy(module.state_dict())
        if progress is not None:
            progress(f"validation loss {current:.4f}", epoch + 1, epochs)
    module.load_state_dict(best_state)
    return module.eval()


def fit_counts(
    module: nn.Module, gains: Mapping[nn.Module, float], train: Samples, validation: Samples, epochs: int, *, rate: float = 4e-3, **options: Any
) -> nn.Module:
    """`fit` for networks whose outputs are spike counts, by the cross-entropy of half of them.

    gains: by synapses, what their first weights are multiplied with: the default scale would leave every neuron silent.
    """
    with torch.no_grad():
        for synapses, gain in gains.items():
            synapses.weight.mul_(gain)

    def loss(counts: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(0.5 * counts, labels)

    return fit(module, train, validation, loss, epochs, rate=rate, decay=0.0, **options)


def cross_entropy(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over all that is labelled, tokens or pixels, say; scores: (..., classes), labels: (...)."""
    return nn.functional.cross_entropy(scores.flatten(0, -2), labels.flatten())


def evaluate(module: nn.Module, samples: Samples, loss: Loss, batch: int = 256) -> float:
    """The mean loss over all samples, in eval mode."""
    module.eval()
    device = next(module.parameters()).device
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(samples), batch):
            part = samples.take(slice(start, start + batch))
            total += len(part) * float(loss(module(**tensors(part.inputs, device)), torch.from_numpy(part.labels).to(device)))
    return total / len(samples)


def outputs(module: nn.Module, samples: Samples, batch: int = 256) -> np.ndarray:
    """The network's (first) output over all samples."""
    return all_outputs(module, samples, batch)[0]


def all_outputs(module: nn.Module, samples: Samples, batch: int = 256) -> list[np.ndarray]:
    """Every output of the network, a tensor or a tuple of them, over all samples."""
    module.eval()
    device = next(module.parameters()).device
    parts = []
    with torch.no_grad():
        for start in range(0, len(samples), batch):
            given = module(**tensors(samples.take(slice(start, start + batch)).inputs, device))
            parts.append([tensor.cpu().numpy() for tensor in (given if isinstance(given, tuple) else (given,))])
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def metric_of(reference: Reference, module: nn.Module) -> float:
    """The reference's metric of any module with its inputs and outputs, on its evaluation data."""
    assert reference.evaluation is not None and reference.metric is not None
    held_out = reference.evaluation()
    return reference.metric.compute(all_outputs(module, held_out), held_out.truth)


def tensors(arrays: Mapping[str, np.ndarray], device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """Arrays as tensors on a device."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in arrays.items()}


def plain_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict on the CPU, contiguous, ready for torch.save and weights-only loading."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
