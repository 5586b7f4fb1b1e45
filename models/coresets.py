"""Attention coresets: a memory of keys and values, compressed to the tokens that stand for all of them.

    y = W concat_h softmax_i(rho <q_h, k_hi>) v_hi + b,    i in S_h:  a subset of the bank's tokens for each head

q, k: unit vectors (d,), rho: the reach of the queries; S_h by halving with balanced signs (`runtime.coreset`, where the mathematics is), so that
the attention of every query within rho stays where it was. "Nearly Optimal Attention Coresets" (arXiv 2605.05602): sets of
O(sqrt(d) e^(rho + o(rho)) / eps) tokens exist for an error eps, Omega(sqrt(d) e^rho / eps) are needed; the proof is no algorithm, so the
construction is BalanceKV's (arXiv 2502.07861), a reference reconstruction. The twin keeps as many tokens, drawn uniformly.
Task: the magnetic field at a place, remembered from 1,024 noisy readings of a survey; a robot that knows the field knows where it is.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.coreset import attention, coreset
from ..runtime.manifest import TensorSpec
from .metrics import MEAN_SQUARED_ERROR
from .reference import Reference, Samples
from .registry import find, weights_file
from .training import Progress, fit, metric_of, outputs

SURVEY = 1024  # readings
NOISE = 0.2  # standard deviations of the field


class FieldMemory(nn.Module):
    """Places (batch, 2) → field (batch, 3), by attention to `size` remembered readings a head.

    keys: (1, heads, size, dim), values: (1, heads, size, 3), no gradient. The batch is the attention's axis of queries, since all read one bank.
    """

    def __init__(self, size: int = 128, heads: int = 4, dim: int = 8, width: int = 64, reach: float = 6.0) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.encode = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, heads * dim))
        self.keys = nn.Parameter(torch.zeros(1, heads, size, dim), requires_grad=False)
        self.values = nn.Parameter(torch.zeros(1, heads, size, 3), requires_grad=False)
        self.read = nn.Linear(heads * 3, 3)

    def directions(self, place: torch.Tensor) -> torch.Tensor:
        """Unit vectors of places, (1, heads, places, dim)."""
        x = self.encode(place).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        return (x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt())[None]

    def recall(self, place: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        y = functional.scaled_dot_product_attention(self.reach * self.directions(place), keys, values, scale=1.0)
        return self.read(y[0].transpose(0, 1).flatten(1))

    def forward(self, place: torch.Tensor) -> torch.Tensor:
        return self.recall(place, self.keys, self.values)


def paper() -> FieldMemory:
    """Every reading of a larger survey; the paper has no network."""
    return FieldMemory(size=8192, heads=8, dim=16, width=256)


def twin() -> FieldMemory:
    """The same network; its bank is drawn uniformly."""
    return FieldMemory()


def whole() -> FieldMemory:
    """With a bank of the whole survey, to be compressed by `edgeattn compile --bank`."""
    return FieldMemory(size=SURVEY)


def field(place: np.ndarray) -> np.ndarray:
    """The field of 24 dipoles under the floor at places (n, 2) of the unit square: (n, 3), standardised over the square."""
    random = np.random.default_rng(54)
    source = np.concatenate([random.random((24, 2)), -random.uniform(0.08, 0.2, (24, 1))], 1)
    moment = random.standard_normal((24, 3))

    def at(where: np.ndarray) -> np.ndarray:
        r = np.concatenate([where, np.zeros((len(where), 1))], 1)[:, None] - source
        size = np.linalg.norm(r, axis=-1, keepdims=True)
        return ((3 * (r * moment).sum(-1, keepdims=True) * r / size**2 - moment) / size**3).sum(1)

    grid = at(np.stack(np.meshgrid(*2 * [np.linspace(0, 1, 48)]), -1).reshape(-1, 2))
    return (at(place) - grid.mean(0)) / grid.std(0)


def readings(count: int, seed: int, noise: float = 0.0) -> Samples:
    """Uniform places and the field there."""
    random = np.random.default_rng(seed)
    place = random.random((count, 2)).astype(np.float32)
    return Samples({"place": place}, (field(place) + noise * random.standard_normal((count, 3))).astype(np.float32))


@cache
def survey() -> Samples:
    """The readings that make the bank."""
    return readings(SURVEY, 1, NOISE)


def calibration() -> Samples:
    """256 places with noisy readings."""
    return readings(256, 2, NOISE)


def evaluation() -> Samples:
    """2,000 places with the true field."""
    return readings(2000, 3)


class Learner(nn.Module):
    """The memory with the whole survey as its bank, whose keys follow the encoder as it learns."""

    def __init__(self, memory: FieldMemory) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("place", torch.from_numpy(survey().inputs["place"]))
        self.register_buffer("values", torch.from_numpy(survey().truth).repeat(1, memory.heads, 1, 1))

    def forward(self, place: torch.Tensor) -> torch.Tensor:
        return self.memory.recall(place, self.memory.directions(self.place), self.values)


def whole_bank(memory: FieldMemory) -> tuple[np.ndarray, np.ndarray]:
    """Keys (heads, 1024, dim) and values (heads, 1024, 3) of the whole survey."""
    learner = Learner(memory)
    with torch.no_grad():
        return memory.directions(learner.place)[0].cpu().numpy(), learner.values[0].cpu().numpy()


def remember(memory: FieldMemory, balanced: bool = True, seed: int = 0) -> None:
    """Fills the memory's bank from the survey: a coreset for each head, or tokens drawn uniformly."""
    keys, values = whole_bank(memory)
    size, random = memory.keys.shape[2], np.random.default_rng(seed)
    kept = [coreset(k, v, size, memory.reach, seed) if balanced else random.permutation(len(k))[:size] for k, v in zip(keys, values, strict=True)]
    for parameter, bank in ((memory.keys, keys), (memory.values, values)):
        parameter.data = torch.from_numpy(np.stack([head[rows] for head, rows in zip(bank, kept, strict=True)]))[None].to(parameter.device)


def train(seed: int = 0, epochs: int = 40, progress: Progress | None = None, network: FieldMemory | None = None) -> tuple[nn.Module, float]:
    """Learns to read the whole survey, then compresses it; returns the network and its error. A given network's bank is drawn uniformly."""
    torch.manual_seed(seed)
    module = network if network is not None else FieldMemory()
    fit(Learner(module), readings(8192, 4, NOISE), readings(1024, 5), functional.mse_loss, epochs, seed=seed, rate=3e-3, batch=256, progress=progress)
    remember(module, balanced=network is None, seed=seed)
    return module, metric_of(REFERENCE, module)


def errors(keys: np.ndarray, values: np.ndarray, queries: np.ndarray, reach: float, sizes: tuple[int, ...], draws: int = 5) -> np.ndarray:
    """(sizes, 2): the largest distance of attention over a coreset, and the mean over drawn sets of theirs, from attention over all tokens."""
    full, random = attention(queries, keys, values), np.random.default_rng(0)

    def worst(rows: np.ndarray) -> float:
        return float(np.linalg.norm(attention(queries, keys[rows], values[rows]) - full, axis=1).max())

    return np.array(
        [[worst(coreset(keys, values, size, reach)), np.mean([worst(random.permutation(len(keys))[:size]) for _ in range(draws)])] for size in sizes]
    )


def measure() -> dict[str, float]:
    """The task's error with the whole bank, coresets and drawn tokens; how fast the attention's largest error falls with the size of the bank."""
    memory, held_out = find("coresets").module(), evaluation()
    found = {"error, all 1024 tokens": MEAN_SQUARED_ERROR.compute([outputs(Learner(memory).eval(), held_out)], held_out.truth)}
    for size in (256, 128, 64):
        for name, balanced in (("coreset", True), ("drawn", False)):
            for parameter, last in ((memory.keys, memory.keys.shape[-1]), (memory.values, 3)):
                parameter.data = torch.zeros(1, memory.heads, size, last)
            tried = []
            for seed in range(3):
                remember(memory, balanced, seed)
                tried.append(MEAN_SQUARED_ERROR.compute([outputs(memory, held_out)], held_out.truth))
            found[f"error, {size} tokens, {name}"] = float(np.mean(tried))
    keys, values = (bank[0] for bank in whole_bank(memory))
    with torch.no_grad():
        queries = memory.reach * memory.directions(torch.from_numpy(held_out.inputs["place"][:500]))[0, 0].numpy()
    sizes = (32, 64, 128, 256, 512)
    slopes = np.polyfit(np.log(sizes), np.log(errors(keys, values, queries, memory.reach, sizes)), 1)[0]
    return {**found, "slope of log error, coreset": float(slopes[0]), "slope of log error, drawn": float(slopes[1])}


REFERENCE = Reference(
    name="coresets",
    build=FieldMemory,
    inputs=(TensorSpec(name="place", shape=("batch", 2), dtype="float32", unit="sides of the surveyed square", preprocessing="x, y in [0, 1]"),),
    outputs=("field",),
    source="arXiv 2605.05602; construction of arXiv 2502.07861 and 2006.14009",
    task="regression",
    data="the field of 24 dipoles, remembered from 1,024 noisy readings",
    claim="a coreset's largest error falls as 1 / size, nearly optimally; drawn tokens' as 1 / sqrt(size)",
    calibration=calibration,
    evaluation=evaluation,
    metric=MEAN_SQUARED_ERROR,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("coresets"),
    measure=measure,
    reached=0.2335,
    twin_weights=weights_file("coresets_twin"),
)
