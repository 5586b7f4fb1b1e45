"""Hardmax attention: every token walks towards the one token that its own vector points at, and sentences cluster around leader words.

    z_i <- (z_i + alpha z_j(i)) / (1 + alpha),   j(i) = argmax_j <z_i, z_j>,   repeated `depth` times with one alpha > 0

z: (batch, tokens, dim), word vectors after an encoder. The limit of softmax attention exp(<z_i, z_j> / T) for T -> 0, with A the identity and
V = alpha times the identity. A token that points at itself is a leader: it never moves again. Among equal products the first token wins, where the
paper averages. Alcalde, Fantuzzi, Zuazua, "Clustering in pure-attention hardmax transformers and its role in sentiment analysis"
(arXiv 2407.01602), equations 1.1-1.2, and the authors' repository. No exponential, no norm, no feed-forward layer: integers throughout.
Task: the strongest sentiment word of a sentence decides it, however many weaker ones contradict.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import find, weights_file
from .training import Progress, fit, metric_of, outputs, tensors

TOKENS, FEATURES = 24, 16
NEUTRAL, VOCABULARY = 300, 400  # words without sentiment come first
EVALUATION = 12  # seed


def pointed_at(z: torch.Tensor) -> torch.Tensor:
    """j(i) = argmax_j <z_i, z_j>; z: (batch, tokens, dim) → (batch, tokens) indices."""
    return (z @ z.transpose(1, 2)).argmax(-1)


class HardmaxAttention(nn.Module):
    """One step of every token towards the token that it points at; z: (batch, tokens, dim).

    In training the gradient is that of the softmax at temperature 1, the value that of the argmax (a straight-through estimate).
    """

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        at = pointed_at(z)
        seen = torch.gather(z, 1, at[..., None].expand(-1, -1, z.shape[-1]))
        if self.training:
            soft = softly(z, 1.0)
            seen = seen.detach() + soft - soft.detach()
        return seen


class SoftmaxAttention(nn.Module):
    """What hardmax attention is the limit of: sum_j softmax_j(<z_i, z_j> / T) z_j."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return softly(z, self.temperature)


def softly(z: torch.Tensor, temperature: float) -> torch.Tensor:
    """(batch, tokens, dim): every token's softmax mean of all tokens."""
    return functional.softmax(z @ z.transpose(1, 2) / temperature, -1) @ z


class Sentiment(nn.Module):
    """Encoder, `depth` steps of one attention, the mean, linear decoder; x: (batch, features, tokens) → scores (batch, 2).

    attention="softmax" gives the twin.
    """

    def __init__(self, features: int = FEATURES, dim: int = 16, depth: int = 6, alpha: float = 1.0, attention: str = "hardmax") -> None:
        super().__init__()
        self.depth, self.alpha = depth, alpha
        self.embed = nn.Conv1d(features, dim, 1)
        self.attention = SoftmaxAttention() if attention == "softmax" else HardmaxAttention()
        self.decode = nn.Linear(dim, 2)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """The same affine map and ReLU of every word: (batch, features, tokens) → (batch, tokens, dim)."""
        return functional.relu(self.embed(x)).transpose(1, 2)

    def cluster(self, x: torch.Tensor) -> torch.Tensor:
        """The tokens after the last step, (batch, tokens, dim)."""
        z = self.encode(x)
        for _ in range(self.depth):
            z = z * (1 / (1 + self.alpha)) + self.attention(z) * (self.alpha / (1 + self.alpha))
        return z

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.cluster(x).transpose(1, 2)
        return self.decode(functional.avg_pool1d(z, z.shape[-1]).flatten(1))


def paper() -> Sentiment:
    """Eight layers as in the authors' notebook; vectors of 300 numbers, the usual size of pre-trained ones, are ours."""
    return Sentiment(features=300, dim=16, depth=8)


def twin() -> Sentiment:
    """Softmax attention at temperature 1 in the same network."""
    return Sentiment(attention="softmax")


@cache
def vocabulary() -> np.ndarray:
    """Word vectors, (400, 16). Word 300 + k has strength (k + 1) / 100 along one direction, its sign the parity of k; all have neutral parts."""
    random = np.random.default_rng(0)
    neutral = random.normal(0, 0.2, (VOCABULARY, FEATURES))
    direction = np.linalg.qr(random.standard_normal((FEATURES, 1)))[0][:, 0]
    neutral -= np.outer(neutral @ direction, direction)
    strength = np.zeros(VOCABULARY)
    strength[NEUTRAL:] = np.arange(1, VOCABULARY - NEUTRAL + 1) / 100 * np.where(np.arange(VOCABULARY - NEUTRAL) % 2, 1, -1)
    return neutral + np.outer(strength, direction)


def words(count: int, seed: int) -> np.ndarray:
    """(count, 24) words; four to nine of a sentence's carry sentiment, at random places."""
    random = np.random.default_rng(seed)
    order = random.permuted(np.tile(np.arange(TOKENS), (count, 1)), axis=1)
    planted = order < random.integers(4, 10, (count, 1))
    return np.where(planted, random.integers(NEUTRAL, VOCABULARY, (count, TOKENS)), random.integers(0, NEUTRAL, (count, TOKENS)))


def sentences(count: int, seed: int) -> Samples:
    """Sentences as word vectors with noise of 0.05, x (count, 16, 24); labels (count,): the sign of the strongest word.

    The sum of all strengths has another sign than the strongest word in about a quarter of the sentences.
    """
    chosen = words(count, seed)
    noise = np.random.default_rng(seed + 1_000_000).normal(0, 0.05, (count, TOKENS, FEATURES))
    return Samples({"x": (vocabulary()[chosen] + noise).transpose(0, 2, 1).astype(np.float32)}, chosen.max(1).astype(np.int64) % 2)


def calibration() -> Samples:
    """256 sentences."""
    return sentences(256, seed=11)


def evaluation() -> Samples:
    """2,000 sentences never seen in training."""
    return sentences(2000, EVALUATION)


def leaders(module: Sentiment, x: torch.Tensor) -> torch.Tensor:
    """(batch, tokens) bool: the tokens that point at themselves before the first step."""
    return pointed_at(module.encode(x)) == torch.arange(x.shape[2])


def measure() -> Mapping[str, float]:
    """How sentences cluster in the shipped weights, whether leaders are planted words, and softmax's accuracy as its temperature falls."""
    reference = find("hardmax")
    module, held_out = reference.module(), evaluation()
    x, chosen = tensors(held_out.inputs)["x"], torch.from_numpy(words(len(held_out), EVALUATION))
    assert isinstance(module, Sentiment)
    with torch.no_grad():
        led, end = leaders(module, x), module.cluster(x)
        apart = torch.cdist(end, end) > 0.05 * module.encode(x).norm(dim=-1).mean()
        clusters = (apart | torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu()).all(-1).sum(1)  # tokens unlike all before them
    figures = {
        "leaders per sentence": float(led.float().sum(1).mean()),
        "leaders that are sentiment words, %": 100 * float((chosen[led] >= NEUTRAL).float().mean()),
        "sentences whose strongest word leads, %": 100 * float((led & (chosen == chosen.amax(1, keepdim=True))).any(1).float().mean()),
        "clusters per sentence": float(clusters.float().mean()),
    }
    soft = twin().eval()
    soft.load_state_dict(module.state_dict())
    for temperature in (1.0, 0.1, 0.001):
        soft.attention = SoftmaxAttention(temperature)
        figures[f"hardmax weights, softmax at T = {temperature:g}, %"] = ACCURACY.compute([outputs(soft, held_out)], held_out.truth)
    figures["softmax twin, %"] = ACCURACY.compute([outputs(reference.trained_twin(), held_out)], held_out.truth)
    return figures


def train(seed: int = 0, epochs: int = 12, progress: Progress | None = None, network: Sentiment | None = None) -> tuple[nn.Module, float]:
    """Trains on 12,000 sentences; returns the network and its accuracy on the evaluation sentences."""
    torch.manual_seed(seed)
    module = network if network is not None else Sentiment()
    fit(
        module,
        sentences(12_000, 100 + seed),
        sentences(1000, 10),
        functional.cross_entropy,
        epochs,
        seed=seed,
        rate=1e-2,
        batch=256,
        progress=progress,
    )
    return module, metric_of(REFERENCE, module)


REFERENCE = Reference(
    name="hardmax",
    build=Sentiment,
    inputs=(TensorSpec(name="x", shape=("batch", FEATURES, TOKENS), dtype="float32", unit="strength of sentiment", preprocessing="word vectors"),),
    outputs=("scores",),
    source="arXiv 2407.01602; repository DCN-FAU-AvH/clustering-hardmax-transformers",
    data="generated sentences of 24 words with planted sentiment, the strongest decides",
    claim="tokens cluster around leaders, which are the words that carry sentiment",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("hardmax"),
    measure=measure,
    reached=86.5,
    twin_weights=weights_file("hardmax_twin"),
)
