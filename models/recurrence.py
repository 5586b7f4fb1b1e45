"""The recurrence behind selective scans, moving averages and gated memories.

    h_t = a_t * h_(t-1) + b_t,   h_(-1) = 0

a, b: (batch, steps, ...) of one shape, element-wise; h: the same. Mamba (Gu and Dao, arXiv 2312.00752, eq. 2) has a = exp(delta A), b = delta B x;
a damped moving average has a constant a. Systems call this instead of looping, so that exporting can choose the form of the scan.
"""

from __future__ import annotations

import torch


def linear_recurrence(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """All h_t, (batch, steps, ...); a and b broadcast to one shape except along the steps."""
    state, states = torch.zeros_like(b[:, 0]), []
    for step in range(b.shape[1]):
        state = a[:, step] * state + b[:, step]
        states.append(state)
    return torch.stack(states, 1)
