"""How RouteFormer learns: by imitating local search, then by policy gradient on the length of the routes that it draws.

Modules are any encoder (options → cache) and any step (cache, last, visited → log-probabilities) of `routeformer`'s shapes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .data.areas import OPTIONS, fields, length, search
from .reference import Samples
from .registry import find
from .training import Progress, fit

NODES = 20


def decode(encoder: nn.Module, step: nn.Module, options: torch.Tensor, samples: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Greedy routes (problems, nodes), or `samples` drawn routes a problem, and their log-probability with its gradient."""
    state = [options, *encoder(options)]
    if samples:
        state = [x.repeat_interleave(samples, 0) for x in state]
    rows, nodes = state[0].shape[:2]
    last = torch.zeros(rows, dtype=torch.int64, device=options.device)
    visited = torch.zeros(rows, nodes, dtype=torch.bool, device=options.device)
    visited[:, 0] = True
    route, likelihood = [last], torch.zeros(rows, device=options.device)
    for _ in range(nodes - 1):
        scores = step(*state, last, visited)
        last = torch.multinomial(scores.detach().exp(), 1)[:, 0] if samples else scores.argmax(-1)
        likelihood = likelihood + scores.gather(1, last[:, None])[:, 0]
        visited = visited.scatter(1, (last // OPTIONS)[:, None], True)
        route.append(last)
    return torch.stack(route, 1), likelihood


def labelled(options: np.ndarray) -> Samples:
    """Maps with the lengths that local search from four orders reaches, as labels (problems, nodes * 8, 6): options flat, the length last."""
    found = length(options, search(options))
    flat = options.reshape(len(options), -1, 5)
    return Samples({"options": options}, np.concatenate([flat, np.broadcast_to(found[:, None, None], (*flat.shape[:2], 1))], -1).astype(np.float32))


def mixed(problems: int, seed: int, nodes: int = NODES) -> np.ndarray:
    """Maps half with areas, half with plain stops."""
    return np.concatenate([fields(problems // 2, nodes, seed), fields(problems - problems // 2, nodes, seed + 1, extent=0.0)])


def cached(encoder: nn.Module, options: np.ndarray) -> list[np.ndarray]:
    """The encoder's outputs for maps (problems, nodes, 8, 5)."""
    with torch.no_grad():
        return [x.cpu().numpy() for x in encoder(torch.from_numpy(options).to(next(encoder.parameters()).device))]


def gap(cached: Sequence[np.ndarray], labels: np.ndarray, step: nn.Module | None = None) -> float:
    """Mean percent by which greedy routes over the cache are longer than local search's; the decoder: `step`, or the shipped one."""
    if step is None:
        step = find("routeformer_step").module()
    options = labels[..., :5].reshape(len(labels), -1, OPTIONS, 5)
    fixed = [torch.from_numpy(np.ascontiguousarray(x)) for x in cached]
    with torch.no_grad():
        route, _ = decode(lambda _: fixed, step, torch.from_numpy(options))  # type: ignore[arg-type]
    return 100 * float(np.mean(length(options, route.numpy()) / labels[:, 0, 5] - 1))


class Imitation(nn.Module):
    """Log-probabilities of all choices (problems, prefixes, 8 nodes) after some prefixes of known routes, all at once; `at`: their last places."""

    def __init__(self, encoder: nn.Module, step: nn.Module) -> None:
        super().__init__()
        self.encoder, self.step = encoder, step

    def forward(self, options: torch.Tensor, route: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        problems, nodes = options.shape[:2]
        prefixes = at.shape[1]
        state = [x.repeat_interleave(prefixes, 0) for x in (options, *self.encoder(options))]
        place = (route // OPTIONS).argsort(1)  # of each node in the route
        visited = (place[:, None] <= at[..., None]).flatten(0, 1)
        return self.step(*state, route.gather(1, at).flatten(), visited).reshape(problems, prefixes, nodes * OPTIONS)


def lessons(problems: int, nodes: int, seed: int, prefixes: int = 8) -> Samples:
    """Local search's routes on random maps, each in a random direction's order; labels: the choice after each prefix (problems, prefixes)."""
    options = mixed(problems, seed, nodes)
    route = search(options, starts=3, seed=seed)
    at = np.random.default_rng(seed).random((problems, nodes - 1)).argsort(1)[:, :prefixes]
    return Samples({"options": options, "route": route, "at": at}, np.take_along_axis(route, at + 1, 1))


def _likelihood(scores: torch.Tensor, choices: torch.Tensor) -> torch.Tensor:
    return functional.nll_loss(scores.flatten(0, 1), choices.flatten())


def reinforce(
    encoder: nn.Module,
    step: nn.Module,
    rounds: int,
    seed: int,
    problems: int = 64,
    samples: int = 8,
    nodes: int = NODES,
    progress: Progress | None = None,
) -> None:
    """Policy gradient on the length itself, the mean of a problem's other draws as baseline (Kool et al., "Buy 4 REINFORCE Samples", eq. 8)."""
    torch.manual_seed(seed)
    parameters = [*encoder.parameters(), *step.parameters()]
    device = parameters[0].device
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.1, rounds)
    encoder.train(), step.train()
    for number in range(rounds):
        options = mixed(problems, 1_000_000 + 1000 * seed + 2 * number, nodes)
        route, likelihood = decode(encoder, step, torch.from_numpy(options).to(device), samples)
        cost = length(np.repeat(options, samples, 0), route.cpu().numpy()).reshape(problems, samples)
        advantage = (cost - cost.mean(1, keepdims=True)) * samples / (samples - 1)
        optimiser.zero_grad()
        (torch.from_numpy(advantage.astype(np.float32)).to(device).flatten() * likelihood).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if progress is not None and (number + 1) % 25 == 0:
            progress(f"drawn length {cost.mean():.3f}", number + 1, rounds)
    encoder.eval(), step.eval()


def learn(encoder: nn.Module, step: nn.Module, seed: int, epochs: int, progress: Progress | None = None) -> None:
    """Imitates local search, then goes on by policy gradient; what has requires_grad=False stays as it is."""
    data, validation = lessons(24_000, NODES, 100 * seed + 1), lessons(500, NODES, 100 * seed + 5)
    fit(Imitation(encoder, step), data, validation, _likelihood, epochs, seed=seed, rate=2e-3, progress=progress)
    reinforce(encoder, step, 20 * epochs, seed, progress=progress)
