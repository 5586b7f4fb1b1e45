"""The decoder of RouteFormer, which runs once a node on the cache of `routeformer`'s encoder; equations and shapes are told there.

Its own metric is how often it takes the choice (area, entry and pattern at once) that local search took after the same prefix.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from ..runtime.manifest import TensorSpec
from .data.areas import OPTIONS, search
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import find, weights_file
from .route_learning import NODES, cached, learn, mixed
from .routeformer import CACHE, RouteEncoder, RouteStep
from .training import Progress, outputs

DIM = 64


def paper() -> RouteStep:
    """Kool et al.'s size, for the cache of `routeformer.paper`."""
    return RouteStep(dim=128, heads=8)


def twin() -> RouteStep:
    """The pointer alone, without the way to each node: Kool et al.'s decoder."""
    return RouteStep(near=False)


def decisions(problems: int, seed: int, encoder: nn.Module, prefixes: int = 4) -> Samples:
    """Prefixes of local search's routes with the choice that follows, (problems * prefixes,); at least the first choice is made."""
    options = mixed(problems, seed)
    route = search(options, seed=seed)
    at = np.random.default_rng(seed).integers(1, NODES - 2, (problems, prefixes))
    place = np.argsort(route // OPTIONS, 1)
    state = dict(zip(("options", *CACHE), (options, *cached(encoder, options)), strict=True))
    inputs = {name: np.repeat(array, prefixes, 0) for name, array in state.items()}
    inputs["last"] = np.take_along_axis(route, at, 1).ravel()
    inputs["visited"] = (place[:, None] <= at[..., None]).reshape(-1, NODES)
    return Samples(inputs, np.take_along_axis(route, at + 1, 1).ravel())


def calibration() -> Samples:
    """256 decisions."""
    return decisions(64, 21_000, find("routeformer").module())


@cache
def evaluation() -> Samples:
    """2,000 decisions."""
    return decisions(500, 11_000, find("routeformer").module())


def train(seed: int = 0, epochs: int = 8, progress: Progress | None = None, network: RouteStep | None = None) -> tuple[nn.Module, float]:
    """Trains encoder and decoder together; returns the decoder and its agreement with local search, in points.

    A given network is trained for the shipped encoder, which stays as it is.
    """
    torch.manual_seed(seed)
    encoder, module = (RouteEncoder(), RouteStep()) if network is None else (find("routeformer").module().requires_grad_(False), network)
    learn(encoder, module, seed, epochs, progress)
    held_out = decisions(500, 11_000, encoder)
    return module, ACCURACY.compute([outputs(module, held_out)], held_out.truth)


def measure() -> dict[str, float]:
    """Points of agreement with local search, with and without the way to each node."""
    held_out, here = evaluation(), find("routeformer_step")
    modules = {"agreement with local search": here.module(), "the same without distances": here.trained_twin()}
    return {name: ACCURACY.compute([outputs(module, held_out)], held_out.truth) for name, module in modules.items()}


def _cache_spec(name: str) -> TensorSpec:
    return TensorSpec(name=name, shape=("batch", NODES, DIM), dtype="float32", preprocessing=f"routeformer's output {name}")


REFERENCE = Reference(
    name="routeformer_step",
    build=RouteStep,
    inputs=(
        TensorSpec(name="options", shape=("batch", NODES, OPTIONS, 5), dtype="float32", unit="sides of the map", preprocessing="routeformer's input"),
        *(_cache_spec(name) for name in CACHE),
        TensorSpec(name="last", shape=("batch",), dtype="int64", unit="choice", preprocessing="8 node + option of the last choice"),
        TensorSpec(name="visited", shape=("batch", NODES), dtype="bool", preprocessing="the depot and every node of a choice made"),
    ),
    outputs=("scores",),
    source="arXiv 2504.05407 (abstract); equations of arXiv 1803.08475",
    data="maps of 20 areas or stops, the next choice of local search's routes",
    claim="one decision costs a fraction of a search",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("routeformer_step"),
    measure=measure,
    reached=72.3,
    twin_weights=weights_file("routeformer_step_twin"),
)
