"""Learning from failures too: a policy whose attention is biased by what kind of demonstration it should imitate.

    K = X W_K + p U_K,   V = X W_V + p U_V,   Y = softmax(Q K^T / sqrt(d)) V            p: the episode's mode, (batch, 2)
    D = JS(A(x, p_failure), A(x, p_success))                                            A: attention weights; how much a failure has to tell

X: tokens of the observation, (batch, 3, dim): robot, goal, obstacle; Q: one query for each action of a chunk, (batch, 8, dim); U: (2, 3 dim).
Failures train the same weights under a mode of their own; the robot runs under the mode of success. "How to Utilize Failure Demo Data?"
(arXiv 2605.07560), from its abstract: latent differences of success and failure enter the attention, and a discrepancy of attention selects failures.
Here the codes p are fixed and known at run time; a reference reconstruction. Chunks and their temporal ensemble are those of ACT (Zhao et al.,
arXiv 2304.13705, section 4), run by `runtime.chunks`. The task: a point robot reaches a goal behind an obstacle.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.chunks import Ensemble
from ..runtime.manifest import TensorSpec
from .data.reaching import NEAR, STEPS, Policy, demonstrations, roll, starts
from .layers import Block, SelfAttention, merge_heads, split_heads
from .metrics import MEAN_SQUARED_ERROR
from .reference import Reference, Samples, with_weights
from .registry import find, weights_file
from .training import Progress, fit, metric_of, outputs

CHUNK, TOKENS = 8, 3  # actions; what is seen: robot, goal, obstacle
ERROR = replace(MEAN_SQUARED_ERROR, unit="squared steps")
SUCCESS, FAILURE = np.eye(2, dtype=np.float32)


class BiasedAttention(nn.Module):
    """Cross-attention whose keys and values are moved by the mode; biased=False: plain softmax attention.

    x: (batch, queries, dim), tokens: (batch, n, dim), mode: (batch, 2) → (batch, queries, dim).
    """

    def __init__(self, dim: int, heads: int, biased: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)
        self.key_bias, self.value_bias = (nn.Linear(2, TOKENS * dim, bias=False) if biased else None for _ in range(2))

    def parts(self, x: torch.Tensor, tokens: torch.Tensor, mode: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """q, k, v: (batch, heads, n, dim / heads). Each token has a bias of its own: one common to all keys would leave the softmax unchanged."""
        key, value = self.key(tokens), self.value(tokens)
        if self.key_bias is not None and self.value_bias is not None:
            key = key + self.key_bias(mode).unflatten(-1, tokens.shape[1:])
            value = value + self.value_bias(mode).unflatten(-1, tokens.shape[1:])
        q, k, v = (split_heads(y, self.heads) for y in (self.query(x), key, value))
        return q, k, v

    def forward(self, x: torch.Tensor, tokens: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        return self.project(merge_heads(functional.scaled_dot_product_attention(*self.parts(x, tokens, mode))))

    def weights(self, x: torch.Tensor, tokens: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        """A: (batch, heads, queries, n)."""
        q, k, _ = self.parts(x, tokens, mode)
        return torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)


class ChunkPolicy(nn.Module):
    """observation (batch, 7), mode (batch, 2) → the next 8 actions (batch, 8, 2), in steps. biased=False: the mode is a fourth token, the twin."""

    def __init__(self, dim: int = 32, heads: int = 4, depth: int = 2, biased: bool = True) -> None:
        super().__init__()
        self.tokens = nn.ModuleList([nn.Sequential(nn.Linear(3, dim), nn.GELU(), nn.Linear(dim, dim)) for _ in range(TOKENS)])
        self.mode = None if biased else nn.Linear(2, dim)
        self.queries = nn.Parameter(0.5 * torch.randn(1, CHUNK, dim))
        self.attentions = nn.ModuleList([BiasedAttention(dim, heads, biased) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(depth)])
        self.blocks = nn.ModuleList([Block(dim, SelfAttention(dim, heads), expansion=2) for _ in range(depth)])
        self.norm, self.act = nn.LayerNorm(dim), nn.Linear(dim, 2)

    def read(self, observation: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        """(batch, n, dim): the robot's place, the goal and the obstacle as the robot sees them, and in the twin the mode."""
        robot, goal, obstacle, radius = observation.split((2, 2, 2, 1), 1)
        seen = ((robot, radius), (goal - robot, radius), (obstacle - robot, radius))
        read = [layer(torch.cat(parts, 1)) for layer, parts in zip(self.tokens, seen, strict=True)]
        return torch.stack(read if self.mode is None else [*read, self.mode(mode)], 1)

    def forward(self, observation: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        tokens = self.read(observation, mode)
        x = self.queries.expand(observation.shape[0], -1, -1)
        for attention, norm, block in zip(self.attentions, self.norms, self.blocks, strict=True):
            x = block(x + attention(norm(x), tokens, mode))
        return self.act(self.norm(x))

    def discrepancy(self, observation: torch.Tensor) -> torch.Tensor:
        """D of each observation (batch,), nats: Jensen-Shannon divergence of the first layer's attention under both modes."""
        x = self.norms[0](self.queries.expand(len(observation), -1, -1))
        modes = (torch.from_numpy(code).expand(len(observation), -1) for code in (FAILURE, SUCCESS))
        p, q = (self.attentions[0].weights(x, self.read(observation, mode), mode) for mode in modes)
        middle = (p + q) / 2
        return sum((torch.xlogy(one, one) - torch.xlogy(one, middle)).sum(-1) / 2 for one in (p, q)).mean((1, 2))


def paper() -> ChunkPolicy:
    """A larger one, nearer to ACT's decoder."""
    return ChunkPolicy(dim=128, heads=8, depth=4)


def twin() -> ChunkPolicy:
    """Plain softmax attention, the mode being one more token."""
    return ChunkPolicy(biased=False)


def chunks(robots: int, kind: int, seed: int, mode: np.ndarray, chosen: np.ndarray | None = None) -> Samples:
    """observation, mode and the next 8 commanded actions, from every place on the way that has so many after it; chosen: (robots,) whose."""
    seen, done, _ = demonstrations(robots, kind, seed)
    if chosen is not None:
        seen, done = seen[chosen], done[chosen]
    observation, action = [], []
    for place in range(STEPS - CHUNK):
        under_way = np.linalg.norm(seen[:, place, :2] - seen[:, place, 2:4], axis=1) >= NEAR
        observation.append(seen[under_way, place])
        action.append(done[under_way, place : place + CHUNK])
    x = np.concatenate(observation)
    return Samples({"observation": x, "mode": np.tile(mode, (len(x), 1))}, np.concatenate(action).astype(np.float32))


def join(*parts: Samples) -> Samples:
    """Samples one after another."""
    names = parts[0].inputs
    return Samples({name: np.concatenate([part.inputs[name] for part in parts]) for name in names}, np.concatenate([part.truth for part in parts]))


def calibration() -> Samples:
    """256 chunks in the mode of success."""
    samples = chunks(30, 0, 1, SUCCESS)
    return samples.take(np.random.default_rng(0).permutation(len(samples))[:256])


def evaluation() -> Samples:
    """Some 2,200 chunks of the expert, from 100 episodes never trained on."""
    return chunks(100, 0, 3, SUCCESS)


def demonstrated(failures: int = 120, kind: int = 1, told: bool = True, seed: int = 0) -> Samples:
    """60 successes and so many failures of a kind (1: near misses, 2: nonsense), each under its mode; told=False: all under that of success."""
    successes = chunks(60, 0, 100 + seed, SUCCESS)
    return join(successes, chunks(failures, kind, 200 + seed, FAILURE if told else SUCCESS)) if failures else successes


def train(
    seed: int = 0, epochs: int = 80, progress: Progress | None = None, network: ChunkPolicy | None = None, data: Samples | None = None
) -> tuple[nn.Module, float]:
    """Imitates demonstrations, by default `demonstrated()`; returns the network and its error on the expert's actions.

    epochs: passes over 4,000 chunks; less data is passed over more often, so that every training has equally many updates.
    """
    torch.manual_seed(seed)
    module = network if network is not None else ChunkPolicy()
    data = demonstrated(seed=seed) if data is None else data
    passes = max(1, epochs * 4000 // len(data))
    fit(module, data, chunks(30, 0, 4, SUCCESS), functional.mse_loss, passes, seed=seed, rate=4e-3, batch=128, decay=1e-3, progress=progress)
    return module, metric_of(REFERENCE, module)


def drive(run: Policy, episodes: int = 200, seed: int = 900) -> float:
    """Percent of episodes that reach the goal clear of the obstacle; run: observations, time → chunks (episodes, 8, 2), which are ensembled."""
    ensemble = Ensemble()

    def act(now: np.ndarray, time: int) -> np.ndarray:
        ensemble.add(time, run(now, time))
        return ensemble.action(time)

    return 100.0 * float(roll(starts(episodes, seed), act, noise=0.1, seed=seed)[2].mean())


def policy(module: nn.Module, mode: np.ndarray = SUCCESS) -> Policy:
    """A network as `drive` takes it."""

    def run(now: np.ndarray, _: int) -> np.ndarray:
        return outputs(module, Samples({"observation": now, "mode": np.tile(mode, (len(now), 1))}))

    return run


def discrepancies(module: nn.Module, robots: int, kind: int, seed: int) -> np.ndarray:
    """D of each demonstration, (robots,): its mean over the way."""
    assert isinstance(module, ChunkPolicy)
    seen = demonstrations(robots, kind, seed)[0]
    with torch.no_grad():
        found = module.discrepancy(torch.from_numpy(seen.reshape(-1, 7))).numpy().reshape(robots, STEPS)
    way = np.linalg.norm(seen[..., :2] - seen[..., 2:4], axis=-1) >= NEAR
    return (found * way).sum(1) / way.sum(1)


def rival(trained: str) -> nn.Module:
    """The policy trained on "successes" alone, or with failures "untold" from them."""
    return with_weights(ChunkPolicy(), weights_file(f"failure_demo_{trained}"))


def measure() -> dict[str, float]:
    """Success in the closed loop, of the policy, of its twin and of those trained on other data; D of near misses and of nonsense."""
    here = find("failure_demo")
    module, held_out = here.module(), evaluation()
    networks = {"": module, ", twin": here.trained_twin(), ", without failures": rival("successes"), ", failures not told": rival("untold")}
    found = {f"success{who} (%)": drive(policy(network)) for who, network in networks.items()}
    found["success in the mode of failure (%)"] = drive(policy(module, FAILURE))
    found |= {f"squared error{who}": ERROR.compute([outputs(network, held_out)], held_out.truth) for who, network in networks.items()}
    for name, kind in (("near misses", 1), ("nonsense", 2)):
        found[f"attention discrepancy of {name} (nats)"] = float(discrepancies(module, 50, kind, 5).mean())
    return found


REFERENCE = Reference(
    name="failure_demo",
    build=ChunkPolicy,
    inputs=(
        TensorSpec(name="observation", shape=("batch", 7), dtype="float32", unit="sides of the arena", preprocessing="robot, goal, obstacle, radius"),
        TensorSpec(name="mode", shape=("batch", 2), dtype="float32", preprocessing="(1, 0) success, (0, 1) failure; one an episode"),
    ),
    outputs=("actions",),
    source="arXiv 2605.07560 (abstract); chunks of arXiv 2304.13705",
    task="regression",
    data="a point robot round an obstacle: 60 successes and 120 near misses",
    claim="failures raise success where attention is told which it imitates; its discrepancy says which help",
    calibration=calibration,
    evaluation=evaluation,
    metric=ERROR,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("failure_demo"),
    measure=measure,
    reached=0.037083,
    twin_weights=weights_file("failure_demo_twin"),
)
