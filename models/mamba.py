"""The selective state space model that several systems are made of (Gu and Dao, "Mamba", arXiv 2312.00752, section 3.2).

    h_t = exp(delta_t A) h_(t-1) + delta_t B_t x_t,   y_t = C_t h_t + D x_t

x, delta, y: (batch, steps, dim), delta > 0; A: (dim, state), negative; B, C: (batch, steps, state); D: (dim,); h: (batch, steps, dim, state).
A step with delta near 0 is passed over, one with a large delta overwrites the state: that is what makes the scan selective.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from .selective_scan import selective_scan


class SelectiveParameters(nn.Module):
    """What a selective scan reads from its tokens: delta, B and C by linear layers, and the constants A and D.

    A starts at -1 ... -state, delta between 0.01 and 0.3 (the paper's initialisation, section 3.6, for short sequences).
    """

    def __init__(self, dim: int, state: int) -> None:
        super().__init__()
        self.delta, self.write, self.read = nn.Linear(dim, dim), nn.Linear(dim, state), nn.Linear(dim, state)
        self.log_a = nn.Parameter(torch.arange(1, state + 1.0).log().repeat(dim, 1))
        self.skip = nn.Parameter(torch.ones(dim))
        start = torch.exp(torch.rand(dim) * math.log(30.0) + math.log(0.01))
        with torch.no_grad():
            self.delta.weight.mul_(0.3)
            self.delta.bias.copy_(torch.log(torch.expm1(start)))  # softplus of it is `start`

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(delta, A, B, C) for x: (batch, steps, dim)."""
        return functional.softplus(self.delta(x)), -torch.exp(self.log_a), self.write(x), self.read(x)


class Mamba(nn.Module):
    """One way of the Mamba block: y = W_o (scan(SiLU(conv(W_x x))) * SiLU(W_z x)); x: (batch, steps, dim) → the same shape.

    conv: causal, depthwise, over `kernel` steps; inside there are expand * dim channels.
    """

    def __init__(self, dim: int, state: int, expand: int = 2, kernel: int = 4) -> None:
        super().__init__()
        inner = expand * dim
        self.enter, self.gate, self.leave = nn.Linear(dim, inner), nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.conv = nn.Conv1d(inner, inner, kernel, padding=kernel - 1, groups=inner)
        self.parameters_of = SelectiveParameters(inner, state)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.conv(self.enter(x).transpose(1, 2))[:, :, : x.shape[1]].transpose(1, 2)
        tokens = functional.silu(tokens)
        y = selective_scan(tokens, *self.parameters_of(tokens)) + self.parameters_of.skip * tokens
        return self.leave(y * functional.silu(self.gate(x)))


class TwoWayMamba(nn.Module):
    """The sum of a scan from the first step and one from the last; x: (batch, steps, dim) → the same shape."""

    def __init__(self, dim: int, state: int, expand: int = 2, kernel: int = 4) -> None:
        super().__init__()
        self.forwards, self.backwards = (Mamba(dim, state, expand, kernel) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forwards(x) + self.backwards(x.flip(1)).flip(1)
