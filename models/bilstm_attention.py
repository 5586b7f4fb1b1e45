"""BiLSTM with attention: a recurrent network reads a review both ways, attention picks the words that count.

    h_t = [LSTM(e_1 .. e_t); LSTM(e_n .. e_t)],   s_t = tanh(w . h_t),   a = softmax(s),   c = sum_t a_t h_t

ids: (batch, length) word numbers, 0 for padding; e_t: embeddings; h_t: (batch, length, 2 hidden); s, a: (batch, length); c: (batch, 2 hidden).
Because s_t lies in (-1, 1), two words' weights differ by a factor of e^2 at most.

Repository Ermadaniarsafitri061/pba2026-kelompok-3, which compares it with classical methods on IMDb reviews. Padding is masked here instead of
packed, which no engine can do. The task here: reviews where negators turn opinions round (`models/data/reviews_with_negation.py`).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data.reviews_with_negation import PADDING, VOCABULARY, reviews
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import weights_file
from .training import Progress, fit, metric_of, tensors

LENGTH = 40


class BoundedAttention(nn.Module):
    """c = sum_t a_t h_t with scores in (-1, 1); h: (batch, length, dim), real: (batch, length) bool → (batch, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def weights(self, h: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """a: (batch, length), 0 where there is no word."""
        scores = torch.tanh(self.score(h)).squeeze(-1)
        return functional.softmax(torch.where(real, scores, float("-inf")), -1)

    def forward(self, h: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        return (self.weights(h, real)[..., None] * h).sum(1)


class BiLSTMAttention(nn.Module):
    """Embedding, one bidirectional LSTM, attention, a classifier; ids (batch, length) → scores (batch, 2).

    pool="last" gives the rival: the state after the last word each way.
    """

    def __init__(self, vocabulary: int = VOCABULARY, dim: int = 24, hidden: int = 32, pool: str = "attention") -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim, padding_idx=PADDING)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True, bidirectional=True)
        self.attention = BoundedAttention(2 * hidden) if pool == "attention" else None
        self.classify = nn.Linear(2 * hidden, 2)

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        """h: (batch, length, 2 hidden)."""
        return self.lstm(self.words(ids))[0]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        h, real = self.states(ids), ids != PADDING
        if self.attention is not None:
            return self.classify(self.attention(h, real))
        half = h.shape[-1] // 2
        last = functional.one_hot(real.sum(1) - 1, ids.shape[1]).to(h.dtype)
        ahead = (last[..., None] * h[..., :half]).sum(1)
        return self.classify(torch.cat([ahead, h[:, 0, half:]], 1))


def paper() -> BiLSTMAttention:
    """The repository's size: 20,000 words, embeddings of 128, 128 units each way."""
    return BiLSTMAttention(vocabulary=20_000, dim=128, hidden=128)


def twin() -> BiLSTMAttention:
    """The same network that answers from its last states."""
    return BiLSTMAttention(pool="last")


@cache
def _part(count: int, seed: int) -> tuple[Samples, np.ndarray]:
    ids, labels, counting = reviews(count, LENGTH, seed)
    return Samples({"ids": ids}, labels), counting


def calibration() -> Samples:
    """256 reviews."""
    return _part(256, 20)[0]


def evaluation() -> Samples:
    """2,000 reviews."""
    return _part(2000, 21)[0]


def train(seed: int = 0, epochs: int = 20, progress: Progress | None = None, network: BiLSTMAttention | None = None) -> tuple[nn.Module, float]:
    """Trains on 4,000 reviews; returns the network and its accuracy on the evaluation reviews."""
    torch.manual_seed(seed)
    module = network if network is not None else BiLSTMAttention()
    data, validation = _part(4000, 22)[0], _part(1000, 23)[0]
    fit(module, data, validation, functional.cross_entropy, epochs, seed=seed, rate=5e-3, batch=64, progress=progress)
    return module, metric_of(REFERENCE, module)


def counted_words(data: Samples, held_out: Samples) -> float:
    """Accuracy of TF-IDF and logistic regression, the classical rival, in points."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    counts = [np.stack([np.bincount(row, minlength=VOCABULARY)[1:] for row in part.inputs["ids"]]) for part in (data, held_out)]
    pipeline = make_pipeline(TfidfTransformer(), LogisticRegression(max_iter=1000)).fit(counts[0], data.truth)
    return 100.0 * float(pipeline.score(counts[1], held_out.truth))


def measure() -> dict[str, float]:
    """Accuracy beside the last state's and the classical rival's, and how much attention falls on words that decide."""
    network, (samples, counting) = REFERENCE.module(), _part(2000, 21)
    assert isinstance(network, BiLSTMAttention) and network.attention is not None
    ids = tensors(samples.inputs)["ids"]
    with torch.no_grad():
        share = network.attention.weights(network.states(ids), ids != PADDING).numpy()
    return {
        "accuracy, attention (points)": metric_of(REFERENCE, network),
        "accuracy, last state (points)": metric_of(REFERENCE, REFERENCE.trained_twin()),
        "accuracy, TF-IDF and logistic regression (points)": counted_words(_part(4000, 22)[0], samples),
        "attention on opinions and negators (%)": 100.0 * float((share * counting).sum(1).mean()),
        "share of words that are opinions and negators (%)": 100.0 * float((counting.sum(1) / (samples.inputs["ids"] != PADDING).sum(1)).mean()),
    }


REFERENCE = Reference(
    name="bilstm_attention",
    build=BiLSTMAttention,
    inputs=(TensorSpec(name="ids", shape=("batch", LENGTH), dtype="int64", unit="word number", preprocessing="0 pads; 1 to 79 are words"),),
    outputs=("scores",),
    source="repository Ermadaniarsafitri061/pba2026-kelompok-3",
    data="generated reviews of 16 to 40 words in which negators turn opinions round",
    claim="attention over a BiLSTM against its last state and against classical methods (no figure is published)",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("bilstm_attention"),
    measure=measure,
    reached=99.35,
    twin_weights=weights_file("bilstm_attention_twin"),
)
