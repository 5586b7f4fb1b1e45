"""An attention block whose feed-forward half has activations 100 times their median, which one int8 scale cannot hold."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

LENGTH, DIM = 16, 32


class Outliers(nn.Module):
    """x: (batch, length, dim) → scores (batch, 4). The outlying channels of `up` meet small weights in `down`, so they matter little."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.query, self.key, self.value, self.project = (nn.Linear(DIM, DIM) for _ in range(4))
        self.up, self.down = nn.Linear(DIM, 4 * DIM), nn.Linear(4 * DIM, DIM)
        self.head = nn.Linear(DIM, 4)

    def hidden(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.norm1(x)
        y = nn.functional.scaled_dot_product_attention(self.query(z)[:, None], self.key(z)[:, None], self.value(z)[:, None])
        x = x + self.project(y[:, 0])
        return x, nn.functional.gelu(self.up(self.norm2(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, hidden = self.hidden(x)
        return self.head((x + self.down(hidden)).mean(1))


def build() -> Outliers:
    torch.manual_seed(0)
    module = Outliers().eval()
    with torch.no_grad():
        for channel in (3, 17, 40):
            module.up.weight[channel] *= 9
            module.down.weight[:, channel] /= 9
        module.down.weight *= 6
        module.head.weight *= 4
    return module


def data(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((count, LENGTH, DIM)).astype(np.float32)}
