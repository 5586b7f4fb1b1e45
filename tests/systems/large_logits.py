"""Causal attention whose logits lie beyond 65,504: queries and keys share a large constant channel, which softmax cancels and float16 cannot hold."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

LENGTH, DIM = 12, 32


class LargeLogits(nn.Module):
    """x: (batch, length, dim) → scores (batch, 4); the mask is 0 and -inf."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.query, self.key, self.value, self.head = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, 4)
        self.register_buffer("mask", torch.full((LENGTH, LENGTH), float("-inf")).triu(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.norm(x)
        query, key, value = self.query(z)[:, None], self.key(z)[:, None], self.value(z)[:, None]
        y = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=self.mask)
        return self.head(x + y[:, 0])[:, -1]


def build() -> LargeLogits:
    torch.manual_seed(0)
    module = LargeLogits().eval()
    with torch.no_grad():
        for layer in (module.query, module.key):
            layer.weight[0], layer.bias[0] = 0.0, 1000.0
    return module


def data(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((count, LENGTH, DIM)).astype(np.float32)}
