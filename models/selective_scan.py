"""The selective scan of Mamba without its states in memory (Gu and Dao, arXiv 2312.00752, section 3.2).

    h_t = exp(delta_t A) h_(t-1) + delta_t B_t x_t,   h_(-1) = 0,   y_t = C_t h_t

x, delta, y: (batch, steps, dim); A: (dim, state); B, C: (batch, steps, state); h: (batch, steps, state, dim), `state` times as large as all else.

The steps are cut into chunks that run side by side, as in recurrence.py, but one step of all chunks at a time from x, delta, B and C to y, so that
what an operator reads is still in the caches; the decay over a chunk is one exponential of the sum of its delta. Blocks of chunks follow each
other, which bounds the memory of long sequences. Channels are the last axis: they are many, states are few.
"""

from __future__ import annotations

import torch
from torch._decomp import register_decomposition

from .recurrence import LONGEST_CHUNK, linear_recurrence, padded

BLOCK = 1024  # steps; all steps' decays and inputs of a block of 64 channels and 16 states are 8 MB; shorter blocks make larger graphs


def selective_scan(x: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """y, (batch, steps, dim); the skip D x is the caller's. One node of a trace."""
    return operator(x, delta, a, b, c) if torch.compiler.is_exporting() else in_blocks(x, delta, a, b, c)


def in_blocks(x: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The scan in torch's own operators."""
    state, found = None, []
    wholes = (delta, delta * x, b, c)
    for delta_of, u, b_of, c_of in zip(*(whole.split(BLOCK, 1) for whole in wholes), strict=True):
        y, state = _block(delta_of, u, b_of, c_of, a.t(), state)
        found.append(y)
    return torch.cat(found, 1) if len(found) > 1 else found[0]


def _block(
    delta: torch.Tensor, u: torch.Tensor, b: torch.Tensor, c: torch.Tensor, a: torch.Tensor, state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(y, the state after the last step) from `state`, (batch, 1, state, dim), or from zero; u: delta x, a: (state, dim)."""
    steps = delta.shape[1]
    chunks = -(-steps // LONGEST_CHUNK)
    length = -(-steps // chunks)
    delta, u, b, c = (padded(whole, chunks * length).unflatten(1, (chunks, length)) for whole in (delta, u, b, c))
    decays = [torch.exp(at * a) for at in delta.split(1, 2)]
    inputs = [b_t.transpose(2, 3) * u_t for b_t, u_t in zip(b.split(1, 2), u.split(1, 2), strict=True)]
    last = inputs[0]
    for decay, entering in zip(decays[1:], inputs[1:], strict=True):
        last = decay * last + entering
    over = torch.exp(delta.sum(2, keepdim=True) * a)  # the decay over each chunk
    if state is not None:
        last = torch.cat([over[:, :1] * state + last[:, :1], last[:, 1:]], 1) if chunks > 1 else over * state + last
    reached = linear_recurrence(over, last) if chunks > 1 else last
    first = torch.zeros_like(reached[:, :1]) if state is None else state
    states, outputs = torch.cat([first, reached[:, :-1]], 1), []
    for decay, entering, c_t in zip(decays, inputs, c.split(1, 2), strict=True):
        states = decay * states + entering
        outputs.append(c_t @ states)
    return torch.cat(outputs, 2).flatten(1, 2)[:, :steps], reached[:, -1:]


def _like_x(x: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


operator = torch.library.custom_op("edgeattn::selective_scan", in_blocks, mutates_args=())
operator.register_fake(_like_x)
register_decomposition(operator._opoverload)(in_blocks)  # what torch.onnx takes in its place where export/written.py does not write it
register_decomposition(operator._opoverload, type="meta")(_like_x)  # or a trace with open axes finds the shape by tracing the form above
