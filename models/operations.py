"""What a forward pass costs, counted and not timed: the same on every machine."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def operations(module: nn.Module, *inputs: torch.Tensor) -> int:
    """Floating-point operations of the matrix products and convolutions of one forward pass; two to a multiply-add, element-wise work left out.

    Attention is taken apart first: its fused kernel for CPUs is not counted by torch 2.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops())
