"""A user's own sentence encoder, as edgeattn has never seen it: BERT-style, token ids and an attention mask, a pooled embedding."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

VOCABULARY, LENGTH, DIM = 200, 24, 48


class Layer(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.intermediate, self.output = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
        y, _ = self.attention(x, x, x, key_padding_mask=ignored, need_weights=False)
        x = self.norm1(x + y)
        return self.norm2(x + self.output(nn.functional.gelu(self.intermediate(x))))


class SentenceEncoder(nn.Module):
    """input_ids: (batch, length) int64; attention_mask: (batch, length) int64, 1 where a token counts → scores (batch, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(VOCABULARY, DIM), nn.Embedding(LENGTH, DIM)
        self.norm = nn.LayerNorm(DIM)
        self.layers = nn.ModuleList([Layer(DIM, 4) for _ in range(2)])
        self.classify = nn.Linear(DIM, 5)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        at = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.norm(self.words(input_ids) + self.positions(at)[None])
        for layer in self.layers:
            x = layer(x, attention_mask == 0)
        counted = attention_mask[..., None].to(x.dtype)
        return self.classify((x * counted).sum(1) / counted.sum(1))


def build() -> SentenceEncoder:
    torch.manual_seed(0)
    return SentenceEncoder()


def data(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random sentences of 4 to 24 tokens."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, VOCABULARY, (count, LENGTH))
    mask = (np.arange(LENGTH) < random.integers(4, LENGTH + 1, (count, 1))).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask}
