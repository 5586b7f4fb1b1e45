"""Linear layers on the strongest directions of their inputs: fewer weights to read, judged by the same gate as rounding.

    y = W x + b   becomes   y = (W U)(U^T x) + b

U: (in, rank), orthonormal, the right singular vectors of the layer's calibration inputs (uncentred), as few as hold a share `kept` of their
squared norm. (W U): (out, rank). Thomas, "Gated Subspace Inference" (arXiv 2605.03109), without the gated residual: a static graph would read the
whole weight anyway. The two layers are ordinary ones, so they are quantised, lowered and read back like all others.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from ..export.lift import lift
from ..export.trace import Program
from ..models.reference import Reference, Samples
from .calibrate import Batches


@dataclass(frozen=True)
class Subspace:
    """The rewritten network. ranks: by layer rewritten; weights: those of all linear layers before and after."""

    reference: Reference
    ranks: dict[str, int]
    weights: tuple[int, int]


def in_subspace(program: Program, kept: float, calibration: Samples) -> Subspace:
    """Rewrites every linear layer that becomes smaller.

    Left alone: a layer whose inputs need so many directions that rank (in + out) >= in out. Raises InputError where `kept` is not a share, or
    no layer becomes smaller.
    """
    if not 0 < kept < 1:
        raise InputError(f"--subspace {kept:g} is not a share between 0 and 1, such as 0.999.")
    module = lift(program.exported)
    linears = {path: layer for path, layer in module.named_modules() if type(layer) is nn.Linear}
    ranks = {}
    for path, gram in _gram_matrices(module, linears, Batches(calibration, program.fixed_batch)).items():
        layer = linears[path]
        basis = _strongest_directions(gram, kept)
        if len(basis) * (layer.in_features + layer.out_features) < layer.in_features * layer.out_features:
            ranks[path] = len(basis)
            module.set_submodule(path, _factored(layer, basis.float()))
    if not ranks:
        raise InputError(f"--subspace {kept:g}: no linear layer of {program.reference.name} becomes smaller; keep a smaller share.")
    before, after = (_weights(found) for found in (linears, dict(module.named_modules())))
    return Subspace(replace(program.reference, build=lambda: copy.deepcopy(module), weights=None, state=None), ranks, (before, after))


def _gram_matrices(module: nn.Module, linears: dict[str, nn.Linear], batches: Batches) -> dict[str, torch.Tensor]:
    """Sum of x x^T over everything that each layer reads, (in, in) in double precision."""
    grams = {path: torch.zeros(layer.in_features, layer.in_features, dtype=torch.float64) for path, layer in linears.items()}

    def hook(path: str) -> Any:
        def add(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            x = args[0].reshape(-1, args[0].shape[-1]).double()
            grams[path] += x.T @ x

        return add

    hooks = [layer.register_forward_pre_hook(hook(path)) for path, layer in linears.items()]
    with torch.no_grad():
        batches.feed(module)
    for handle in hooks:
        handle.remove()
    return grams


def _strongest_directions(gram: torch.Tensor, kept: float) -> torch.Tensor:
    """(rank, in): the fewest eigenvectors of the Gram matrix whose eigenvalues add up to a share `kept`; one at least."""
    values, vectors = (tensor.flip(-1) for tensor in torch.linalg.eigh(gram))
    shares = values.clamp(min=0).cumsum(0) / values.clamp(min=0).sum().clamp(min=1e-300)
    rank = min(len(values), int((shares < kept).sum()) + 1)
    return vectors[:, :rank].T.contiguous()


def _factored(layer: nn.Linear, basis: torch.Tensor) -> nn.Sequential:
    rank = len(basis)
    down, up = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
    down.weight = nn.Parameter(basis, requires_grad=False)
    up.weight = nn.Parameter(layer.weight.detach() @ basis.T, requires_grad=False)
    if layer.bias is not None:
        up.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
    return nn.Sequential(down, up)


def _weights(modules: dict[str, Any]) -> int:
    return sum(layer.weight.numel() for layer in modules.values() if isinstance(layer, nn.Linear))
