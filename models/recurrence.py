"""The recurrence behind selective scans, moving averages and gated memories.

    h_t = a_t * h_(t-1) + b_t,   h_(-1) = 0

a, b: (batch, steps, ...), element-wise; h: their common shape. Mamba (Gu and Dao, arXiv 2312.00752, eq. 2) has a = exp(delta A), b = delta B x;
a damped moving average has a constant a. Systems call this instead of looping: a trace holds one node, and exporting writes the form below.

The steps are cut into chunks (Blelloch, "Prefix sums and their applications", 1990). All chunks run side by side from zero for their last state and
the product of their a; these two follow the same recurrence, over as many steps as there are chunks; its states are what each chunk starts from
when it runs again. Nothing is divided and nothing exponentiated, so any a is right: zero, negative, above one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._decomp import register_decomposition
from torch.nn.functional import pad

LONGEST_CHUNK = 16  # of 8 to 64 within a tenth of the fastest in ONNX Runtime and OpenVINO for 4,096 steps, with half the nodes of 32


def linear_recurrence(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """All h_t, (batch, steps, ...); a and b have as many axes and steps as each other, and broadcast over the other axes."""
    if a.dim() != b.dim() or a.dim() < 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a {tuple(a.shape)} and b {tuple(b.shape)} must both be (batch, steps, ...) with equal steps")
    return operator(a, b) if isinstance(a, torch.Tensor) else in_chunks(a, b)  # what writes a graph is no tensor (export/written.py)


def in_chunks(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The recurrence in torch's own operators; their number grows with the logarithm of the steps."""
    steps = b.shape[1]
    if steps <= 2 * LONGEST_CHUNK:
        return torch.cat(_states(a.split(1, 1), b.split(1, 1), None), 1)
    chunks = -(-steps // LONGEST_CHUNK)
    length = -(-steps // chunks)
    as_at, bs_at = (padded(x, chunks * length).unflatten(1, (chunks, length)).split(1, 2) for x in (a, b))
    decay, last = as_at[0], bs_at[0]
    for a_t, b_t in zip(as_at[1:], bs_at[1:], strict=True):
        decay, last = decay * a_t, a_t * last + b_t
    reached = in_chunks(decay.squeeze(2), last.squeeze(2))
    start = torch.cat([torch.zeros_like(reached[:, :1]), reached[:, :-1]], 1).unsqueeze(2)
    return torch.cat(_states(as_at, bs_at, start), 2).flatten(1, 2)[:, :steps]


def _states(as_at: tuple[torch.Tensor, ...], bs_at: tuple[torch.Tensor, ...], state: torch.Tensor | None) -> list[torch.Tensor]:
    """The recurrence step by step from `state`, or from zero."""
    states = []
    for a_t, b_t in zip(as_at, bs_at, strict=True):
        state = (b_t if a_t.shape == b_t.shape else torch.zeros_like(a_t) + b_t) if state is None else a_t * state + b_t
        states.append(state)
    return states


def padded(x: torch.Tensor, steps: int) -> torch.Tensor:
    """Zeros after the last step; they reach no state that is kept."""
    return x if x.shape[1] == steps else pad(x, (0, 0) * (x.dim() - 2) + (0, steps - x.shape[1]))


def _keep(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)
    ctx.shape = inputs[1].shape


def _gradients(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """g_t = dh_t + a_(t+1) g_(t+1) is the same recurrence backwards; db_t = g_t, da_t = g_t h_(t-1)."""
    a, h = ctx.saved_tensors
    after = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)
    g = linear_recurrence(after.flip(1), upstream.flip(1)).flip(1)
    before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)
    return (g * before).sum_to_size(a.shape), g.sum_to_size(ctx.shape)


def _like_both(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return b.new_empty(torch.broadcast_shapes(a.shape, b.shape))


operator = torch.library.custom_op("edgeattn::linear_recurrence", in_chunks, mutates_args=())  # one node of a trace
operator.register_fake(_like_both)
register_decomposition(operator._opoverload)(in_chunks)  # what torch.onnx takes in its place where export/written.py does not write it
register_decomposition(operator._opoverload, type="meta")(_like_both)  # or a trace with open axes finds the shape by tracing the form above
operator.register_autograd(_gradients, setup_context=_keep)
