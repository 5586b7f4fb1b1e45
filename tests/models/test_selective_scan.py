"""The selective scan in blocks: equal to its equation step by step, one node of a trace, a graph that fits any batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeattn.export.compare import check_graph
from edgeattn.export.graph import to_graph
from edgeattn.export.trace import trace
from edgeattn.models.reference import Reference
from edgeattn.models.selective_scan import BLOCK, operator, selective_scan
from edgeattn.runtime.manifest import TensorSpec


class Scan(nn.Module):
    """Three channels with a state of 4, everything read from x: (batch, steps, 11)."""

    def __init__(self) -> None:
        super().__init__()
        self.log_a = nn.Parameter(torch.arange(12.0).reshape(3, 4) / 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return selective_scan(x[..., :3], nn.functional.softplus(x[..., :3]), -self.log_a.exp(), x[..., 3:7], x[..., 7:])


def random_inputs(steps, dim=3, state=4):
    draw = torch.Generator().manual_seed(steps)
    shapes = {"x": (2, steps, dim), "delta": (2, steps, dim), "a": (dim, state), "b": (2, steps, state), "c": (2, steps, state)}
    found = {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in shapes.items()}
    return {**found, "delta": found["delta"].abs(), "a": -found["a"].abs()}


def step_by_step(x, delta, a, b, c):
    state, outputs = torch.zeros(x.shape[0], *a.shape, dtype=x.dtype), []
    for step in range(x.shape[1]):
        state = torch.exp(delta[:, step, :, None] * a) * state + (delta[:, step] * x[:, step])[..., None] * b[:, step, None]
        outputs.append((state * c[:, step, None]).sum(-1))
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("steps", [1, 2, 16, 17, 97, BLOCK, BLOCK + 37])
def test_every_length_equals_the_equation_step_by_step(steps):
    inputs = random_inputs(steps)
    torch.testing.assert_close(selective_scan(**inputs), step_by_step(**inputs), rtol=1e-9, atol=1e-9)


def test_gradients_are_the_equations():
    inputs = random_inputs(50)
    ours, theirs = ({name: value.clone().requires_grad_() for name, value in inputs.items()} for _ in range(2))
    selective_scan(**ours).square().sum().backward()
    step_by_step(**theirs).square().sum().backward()
    for name in inputs:
        torch.testing.assert_close(ours[name].grad, theirs[name].grad, rtol=1e-8, atol=1e-8)


def test_steps_with_a_delta_of_zero_are_passed_over():
    inputs = random_inputs(40)
    inputs["delta"][:, 1::2] = 0
    kept = {name: value if name == "a" else value[:, ::2] for name, value in inputs.items()}
    torch.testing.assert_close(selective_scan(**inputs)[:, ::2], selective_scan(**kept))


@pytest.mark.parametrize("steps", [40, BLOCK + 8])
def test_one_node_of_a_trace_and_a_graph_for_every_batch_size(steps):
    module = Scan().eval()
    example = {"x": np.random.default_rng(0).standard_normal((2, steps, 11)).astype(np.float32)}
    specs = (TensorSpec(name="x", shape=("batch", steps, 11), dtype="float32"),)
    program = trace(Reference("scan", lambda: module, specs, ("y",), "a test"), example)
    assert [node.target for node in program.exported.graph.nodes].count(operator._opoverload) == 1
    batches = [{"x": np.random.default_rng(size).standard_normal((size, steps, 11)).astype(np.float32)} for size in (1, 2, 5)]
    assert check_graph(to_graph(program), program, batches) < 1e-5
