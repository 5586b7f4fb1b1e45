"""Networks to time, with random weights: what users bring, at the sizes of the papers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from edgeattn.models.selective_scan import selective_scan


class Encoder(nn.Module):
    """Pre-norm transformer encoder. x: (batch, length, features) → (batch, outputs)."""

    def __init__(self, features: int, dim: int, depth: int, heads: int, outputs: int, length: int) -> None:
        super().__init__()
        self.embed, self.positions = nn.Linear(features, dim), nn.Parameter(torch.randn(length, dim) * 0.02)
        self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.project = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.project(y.transpose(1, 2).reshape(batch, length, dim))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Vision(nn.Module):
    """Patches of 16 x 16 pixels through an encoder (Dosovitskiy et al., ICLR 2021; DeiT-tiny's sizes). x: (batch, 3, 224, 224)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(768, 192, 12, 3, 1000, 196)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(_patches(x))


class Distilled(nn.Module):
    """The same with a class and a distillation token, the two heads averaged (Touvron et al., ICML 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.tokens = nn.Linear(768, 192), nn.Parameter(torch.randn(2, 192) * 0.02)
        self.positions = nn.Parameter(torch.randn(198, 192) * 0.02)
        self.blocks, self.norm = nn.ModuleList([Block(192, 3) for _ in range(12)]), nn.LayerNorm(192)
        self.head, self.head_dist = nn.Linear(192, 1000), nn.Linear(192, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.tokens.expand(x.shape[0], -1, -1), self.embed(_patches(x))], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2


class Windows(nn.Module):
    """Attention within windows of 7 x 7 of a 28 x 28 grid (Liu et al., Swin Transformer, ICCV 2021, without shifts). x: (batch, 784, 96)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.norm, self.head = nn.ModuleList([Block(96, 3) for _ in range(4)]), nn.LayerNorm(96), nn.Linear(96, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        x = x.reshape(batch, 4, 7, 4, 7, 96).transpose(2, 3).reshape(batch * 16, 49, 96)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).reshape(batch, 784, 96).mean(1))


class Mamba(nn.Module):
    """Two blocks of a selective state space (Gu and Dao, arXiv 2312.00752, figure 3): 128 channels, 256 within, a state of 16.

    x: (batch, steps, 128).
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.head = nn.ModuleList([Selective(128, 256, 16) for _ in range(2)]), nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(1))


class Selective(nn.Module):
    """h_t = exp(delta_t A) h_(t-1) + delta_t B_t u_t, y_t = C_t h_t + D u_t, between a convolution over 4 steps and a gate."""

    def __init__(self, dim: int, inner: int, state: int) -> None:
        super().__init__()
        self.state, self.norm = state, nn.LayerNorm(dim)
        self.enter, self.leave = nn.Linear(dim, 2 * inner), nn.Linear(inner, dim)
        self.mix = nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
        self.select, self.delta = nn.Linear(inner, 8 + 2 * state), nn.Linear(8, inner)
        self.log_a, self.skip = nn.Parameter(torch.arange(1, state + 1.0).log().repeat(inner, 1)), nn.Parameter(torch.ones(inner))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, gate = self.enter(self.norm(x)).chunk(2, -1)
        u = nn.functional.silu(self.mix(u.transpose(1, 2))[:, :, : x.shape[1]].transpose(1, 2))
        rank, b, c = self.select(u).split([8, self.state, self.state], -1)
        delta = nn.functional.softplus(self.delta(rank))
        y = self.scan(u, delta, -self.log_a.exp(), b, c) + self.skip * u
        return self.leave(y * nn.functional.silu(gate))

    def scan(self, u: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return selective_scan(u, delta, a, b, c)


class DecoderStep(nn.Module):
    """One token through a decoder of 4 layers of 256 with the keys and values of `past` tokens as inputs, the new ones as outputs.

    x: (batch, 1, 256); keys, values: (batch, 4 layers, 4 heads, past, 64).
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.norm, self.head = nn.ModuleList([Block(256, 4) for _ in range(4)]), nn.LayerNorm(256), nn.Linear(256, 1000)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        new_keys, new_values = [], []
        for layer, block in enumerate(self.blocks):
            q, k, v = block.qkv(block.norm1(x)).reshape(-1, 1, 3, 4, 64).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(q, torch.cat([keys[:, layer], k], 2), torch.cat([values[:, layer], v], 2))
            x = x + block.project(y.transpose(1, 2).reshape(-1, 1, 256))
            x = x + block.down(nn.functional.gelu(block.up(block.norm2(x))))
            new_keys.append(k)
            new_values.append(v)
        return self.head(self.norm(x)), torch.stack(new_keys, 1), torch.stack(new_values, 1)


def series_96() -> nn.Module:
    return _seeded(lambda: Encoder(8, 128, 4, 4, 10, 96))


def series_512() -> nn.Module:
    return _seeded(lambda: Encoder(8, 128, 4, 4, 10, 512))


def series_4096() -> nn.Module:
    return _seeded(lambda: Encoder(8, 128, 2, 4, 10, 4096))


def bert_128() -> nn.Module:
    """BERT-small's encoder (4 layers of 512) on embedded tokens."""
    return _seeded(lambda: Encoder(512, 512, 4, 8, 10, 128))


def bert_512() -> nn.Module:
    return _seeded(lambda: Encoder(512, 512, 4, 8, 10, 512))


def deit_tiny() -> nn.Module:
    return _seeded(Distilled)


def windows() -> nn.Module:
    return _seeded(Windows)


def vit_tiny() -> nn.Module:
    return _seeded(Vision)


def mamba_256() -> nn.Module:
    return _seeded(Mamba)


def decoder_step() -> nn.Module:
    return _seeded(DecoderStep)


def _patches(x: torch.Tensor) -> torch.Tensor:
    """(batch, 3, 224, 224) → (batch, 196, 768)."""
    return x.reshape(-1, 3, 14, 16, 14, 16).permute(0, 2, 4, 1, 3, 5).reshape(-1, 196, 768)


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


IMAGE, CACHE = {"x": (3, 224, 224)}, (4, 4, 255, 64)
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "series_96": {"x": (96, 8)},
    "series_512": {"x": (512, 8)},
    "series_4096": {"x": (4096, 8)},
    "bert_128": {"x": (128, 512)},
    "bert_512": {"x": (512, 512)},
    "vit_tiny": IMAGE,
    "deit_tiny": IMAGE,
    "windows": {"x": (784, 96)},
    "mamba_256": {"x": (256, 128)},
    "decoder_step": {"x": (1, 256), "keys": CACHE, "values": CACHE},
}
