"""RouteFormer: a vehicle's route through areas, node by node, from an encoder that runs once and a pointer decoder that runs once a node.

    encoder:  h_i <- h_i + sum_j softmax_j(q_i . k_j / sqrt(d) - w sqrt(n) D_ij) v_j,   then an MLP       D_ij: distance of areas i and j
    decoder:  u_j = C tanh(g . p_j / sqrt(dim)) - a sqrt(n) r_j, -inf where visited;    g = attention of the state to all (k_j, v_j)
              P(area, entry, pattern) = softmax(u) P(entry | area) P(pattern | area, entry)                r_j: way from here to j's entry

options: (batch, nodes, 8, 5), an area's four entries with two patterns each (`data.areas`); node 0 is the depot, where the route begins and
ends. k, v, p are computed once by the encoder: the cache. sqrt(n) keeps distances comparable between sizes, since neighbours come closer as
1 / sqrt(n). "TRATSS: Transformer-Based Task Scheduling System for Autonomous Vehicles" (arXiv 2504.05407, the first title of RouteFormer): graph
encoder, three choices a step, REINFORCE; equations after its published ancestor, Kool et al., "Attention, Learn to Solve Routing Problems!"
(arXiv 1803.08475), section 3; the distance terms are ours. The decoder is the system `routeformer_step`; `Session.decode` runs the two.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data.areas import OPTIONS, fields, length
from .layers import merge_heads, split_heads
from .reference import Metric, Reference, Samples
from .registry import find, weights_file
from .route_learning import NODES, cached, gap, labelled, learn, mixed
from .training import Progress

CLIP = 10.0  # C of the pointer (Kool et al., section 3.2)
CACHE = ("nodes", "keys", "values", "pointers")


class DistanceAttention(nn.Module):
    """Softmax attention less a learned multiple of distance, one a head; x: (batch, nodes, dim), distance: (batch, nodes, nodes).

    near=False: plain softmax attention.
    """

    def __init__(self, dim: int, heads: int, near: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)
        self.weight = nn.Parameter(torch.linspace(0, 2, heads)) if near else None

    def forward(self, x: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
        q, k, v = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        bias = None if self.weight is None else -self.weight[None, :, None, None] * distance[:, None]
        return self.project(merge_heads(functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)))


class RouteEncoder(nn.Module):
    """options → the decoder's cache: nodes, keys, values, pointers, (batch, nodes, dim) each."""

    def __init__(self, dim: int = 64, depth: int = 3, heads: int = 4, near: bool = True) -> None:
        super().__init__()
        self.embed = nn.Linear(OPTIONS * 5, dim)
        self.depot = nn.Parameter(0.02 * torch.randn(dim))
        self.attentions = nn.ModuleList([DistanceAttention(dim, heads, near) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(2 * depth)])
        self.mlps = nn.ModuleList([nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.keys, self.values, self.pointers = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, options: torch.Tensor) -> tuple[torch.Tensor, ...]:
        centre = options[..., :2].mean(2)
        distance = spread(options) * ((centre[:, :, None] - centre[:, None]) ** 2).sum(-1).clamp_min(1e-8).sqrt()
        first = (torch.arange(options.shape[1], device=options.device) == 0).to(options.dtype)
        x = self.embed(options.flatten(2)) + first[:, None] * self.depot
        for index, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            x = x + attention(self.norms[2 * index](x), distance)
            x = x + mlp(self.norms[2 * index + 1](x))
        x = self.norm(x)
        return x, self.keys(x), self.values(x), self.pointers(x)


class RouteStep(nn.Module):
    """One decision: the cache, the last choice and what was visited → log-probabilities (batch, 8 nodes) of all choices.

    last: (batch,) int64; visited: (batch, nodes) bool. Visited nodes get about -10,000, finite for engines in float16.
    """

    def __init__(self, dim: int = 64, heads: int = 4, near: bool = True) -> None:
        super().__init__()
        self.dim, self.heads, self.near = dim, heads, near
        self.here, self.home, self.left = (nn.Linear(dim, dim, bias=bias) for bias in (True, False, False))
        self.glimpse = nn.Linear(dim, dim)
        self.state = nn.Linear(dim, dim)
        self.entry, self.pattern = nn.Linear(dim, 4), nn.Linear(dim, OPTIONS)
        self.scales = nn.Parameter(torch.tensor([2.0, 2.0, 2.0]))  # of the way to a node, to its entries, of the work by pattern

    def forward(
        self, options: torch.Tensor, nodes: torch.Tensor, keys: torch.Tensor, values: torch.Tensor,
        pointers: torch.Tensor, last: torch.Tensor, visited: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        closed = torch.where(visited, -1e4, 0.0)
        free = (~visited).to(nodes.dtype)[..., None]
        left = (nodes * free).sum(1) / free.sum(1).clamp_min(1.0)
        query = self.here(pick(nodes, last // OPTIONS)) + self.home(nodes[:, 0]) + self.left(left)
        q, k, v = (split_heads(x, self.heads) for x in (query[:, None], keys, values))
        seen = merge_heads(functional.scaled_dot_product_attention(q, k, v, attn_mask=closed[:, None, None]))
        g = query + self.glimpse(seen)[:, 0]
        area = CLIP * torch.tanh((pointers * g[:, None]).sum(-1) / self.dim**0.5)
        hidden = functional.relu(pointers + self.state(g)[:, None])
        entry, pattern = self.entry(hidden), self.pattern(hidden).unflatten(-1, (4, 2))
        if self.near:
            position = pick(options.flatten(1, 2), last)[:, None, None, 2:4]
            way = spread(options) * ((options[:, :, ::2, :2] - position) ** 2).sum(-1).clamp_min(1e-8).sqrt()
            area = area - self.scales[0] * way.mean(-1)
            entry = entry - self.scales[1] * way
            pattern = pattern - self.scales[2] * (spread(options) * options[..., 4]).unflatten(-1, (4, 2))
        area = functional.log_softmax(area + closed, -1)
        joint = area[..., None, None] + functional.log_softmax(entry, -1)[..., None] + functional.log_softmax(pattern, -1)
        return joint.flatten(1)


def spread(options: torch.Tensor) -> torch.Tensor:
    """sqrt(nodes), 1 over the distance of neighbours, as (batch, 1, 1), so that exporting may leave the number of nodes open."""
    return torch.ones_like(options[:, :, :1, 0]).sum(1, keepdim=True).sqrt()


def pick(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """x[b, index[b]]: (batch, n, size), (batch,) → (batch, size)."""
    return x.gather(1, index[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]


def paper() -> RouteEncoder:
    """Kool et al.'s size: width 128, 8 heads, 3 layers with hidden 512 there; TRATSS's abstract gives none."""
    return RouteEncoder(dim=128, depth=4, heads=8)


def twin() -> RouteEncoder:
    """Plain softmax attention, no distances: Kool et al.'s encoder."""
    return RouteEncoder(near=False)


def calibration() -> Samples:
    """256 maps of 20 nodes."""
    return labelled(mixed(256, 20_000))


@cache
def evaluation() -> Samples:
    """1,000 maps of 20 nodes, half of plain stops."""
    return labelled(mixed(1000, 10_000))


GAP = Metric("gap to local search", "percent", gap, higher_is_better=False, tolerance=0.5)


def train(seed: int = 0, epochs: int = 8, progress: Progress | None = None, network: RouteEncoder | None = None) -> tuple[nn.Module, float]:
    """Trains encoder and decoder together; returns the encoder and its gap on the evaluation maps with that decoder.

    A given network is trained for the shipped decoder, which stays as it is.
    """
    torch.manual_seed(seed)
    module, step = (RouteEncoder(), RouteStep()) if network is None else (network, find("routeformer_step").module().requires_grad_(False))
    learn(module, step, seed, epochs, progress)
    held_out = evaluation()
    return module, gap(cached(module, held_out.inputs["options"]), held_out.truth, step)


def nearest(options: np.ndarray) -> np.ndarray:
    """Routes (problems, nodes) that always go to the nearest entry of what is left, taking the option with the least work there."""
    problems, nodes = options.shape[:2]
    flat = options.reshape(problems, -1, 5)
    rows, last = np.arange(problems), np.zeros(problems, np.int64)
    visited, route = np.zeros((problems, nodes), bool), [last]
    for _ in range(nodes - 1):
        visited[rows, last // OPTIONS] = True
        way = np.linalg.norm(flat[..., :2] - flat[rows, last][:, None, 2:4], axis=-1)
        last = (way + 1e-3 * flat[..., 4] + 10 * np.repeat(visited, OPTIONS, 1)).argmin(1)
        route.append(last)
    return np.stack(route, 1)


def measure() -> dict[str, float]:
    """Percent above local search of greedy routes: at the trained size and beyond, of each half's plain twin, and of the nearest neighbour."""
    here, step = find("routeformer"), find("routeformer_step")
    plain, pointer = here.trained_twin(), step.trained_twin()
    found = {}
    for nodes, problems in ((20, 500), (50, 60), (100, 12)):
        for kind, extent in (("stops", 0.0), ("areas", 0.06)):
            samples = labelled(fields(problems, nodes, 50_000 + nodes, extent))
            options, labels = samples.inputs["options"], samples.truth
            cache = cached(here.module(), options)
            found[f"gap, {nodes} {kind}"] = gap(cache, labels)
            if nodes == NODES:
                found[f"gap without distances in the encoder, {nodes} {kind}"] = gap(cached(plain, options), labels)
                found[f"gap without distances in the decoder, {nodes} {kind}"] = gap(cache, labels, pointer)
            found[f"gap of the nearest neighbour, {nodes} {kind}"] = 100 * float(np.mean(length(options, nearest(options)) / labels[:, 0, 5] - 1))
    return found


REFERENCE = Reference(
    name="routeformer",
    build=RouteEncoder,
    inputs=(
        TensorSpec(
            name="options",
            shape=("batch", NODES, OPTIONS, 5),
            dtype="float32",
            unit="sides of the map",
            preprocessing="entry x, y, exit x, y, work of each area's 8 options; node 0 the depot",
        ),
    ),
    outputs=CACHE,
    source="arXiv 2504.05407 (abstract); equations of arXiv 1803.08475",
    task="embedding",
    data="maps of 20 areas or stops, routes of local search as labels",
    claim="close to LKH-3 and Concorde, fast enough for constrained devices",
    calibration=calibration,
    evaluation=evaluation,
    metric=GAP,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("routeformer"),
    measure=measure,
    reached=3.527,
    twin_weights=weights_file("routeformer_twin"),
)
