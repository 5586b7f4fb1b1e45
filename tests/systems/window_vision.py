"""A user's own vision model with shifted windows (Liu et al., Swin Transformer): windows, relative position bias, roll and mask, patch merging."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

SIDE, WINDOW = 16, 4


class WindowAttention(nn.Module):
    def __init__(self, dim: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.heads, self.side, self.shift = heads, side, shift
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(0.1 * torch.randn((2 * WINDOW - 1) ** 2, heads))
        grid = torch.stack(torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")).flatten(1)
        offset = grid[:, :, None] - grid[:, None] + WINDOW - 1
        self.register_buffer("index", offset[0] * (2 * WINDOW - 1) + offset[1], persistent=False)
        self.register_buffer("mask", _shift_mask(side, shift), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, dim = x.shape
        n = self.side // WINDOW
        x = torch.roll(x.view(batch, self.side, self.side, dim), (-self.shift, -self.shift), (1, 2))
        windows = x.view(batch, n, WINDOW, n, WINDOW, dim).permute(0, 1, 3, 2, 4, 5).reshape(batch * n * n, WINDOW * WINDOW, dim)
        q, k, v = self.qkv(windows).reshape(-1, WINDOW * WINDOW, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        logits = (q @ k.transpose(-2, -1)) * (dim // self.heads) ** -0.5
        logits = logits + self.table[self.index].permute(2, 0, 1)
        logits = logits.view(batch, n * n, self.heads, WINDOW**2, WINDOW**2) + self.mask[None, :, None]
        y = logits.view(-1, self.heads, WINDOW**2, WINDOW**2).softmax(-1) @ v
        y = self.proj(y.transpose(1, 2).reshape(-1, WINDOW * WINDOW, dim))
        y = y.view(batch, n, n, WINDOW, WINDOW, dim).permute(0, 1, 3, 2, 4, 5).reshape(batch, self.side, self.side, dim)
        return torch.roll(y, (self.shift, self.shift), (1, 2)).reshape(batch, -1, dim)


def _shift_mask(side: int, shift: int) -> torch.Tensor:
    """(windows, 16, 16): -100 between pixels that the roll brought together."""
    region = torch.zeros(side, side)
    if shift:
        for i, rows in enumerate((slice(0, -WINDOW), slice(-WINDOW, -shift), slice(-shift, None))):
            for j, columns in enumerate((slice(0, -WINDOW), slice(-WINDOW, -shift), slice(-shift, None))):
                region[rows, columns] = 3 * i + j
    n = side // WINDOW
    flat = region.view(n, WINDOW, n, WINDOW).permute(0, 2, 1, 3).reshape(n * n, -1)
    return torch.where(flat[:, :, None] == flat[:, None], 0.0, -100.0)


class Block(nn.Module):
    def __init__(self, dim: int, side: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), WindowAttention(dim, 2, side, shift)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class WindowVision(nn.Module):
    """image: (batch, 3, 32, 32) → scores (batch, 6)."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 2, 2)
        self.stage1 = nn.Sequential(Block(dim, SIDE, 0), Block(dim, SIDE, WINDOW // 2))
        self.merge = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.stage2 = nn.Sequential(Block(2 * dim, SIDE // 2, 0), Block(2 * dim, SIDE // 2, WINDOW // 2))
        self.norm, self.head = nn.LayerNorm(2 * dim), nn.Linear(2 * dim, 6)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stage1(self.patches(image).flatten(2).transpose(1, 2))
        batch, _, dim = x.shape
        x = x.view(batch, SIDE // 2, 2, SIDE // 2, 2, dim).permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, 4 * dim)
        return self.head(self.norm(self.stage2(self.merge(x))).mean(1))


def build() -> WindowVision:
    torch.manual_seed(0)
    return WindowVision()


def data(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).standard_normal((count, 3, 32, 32)).astype(np.float32)}
