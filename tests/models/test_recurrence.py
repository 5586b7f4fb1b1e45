"""One operator for the linear recurrence: equal to the loop, differentiable, one node of a trace, few nodes of a graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeattn.export.compare import check_graph
from edgeattn.export.graph import to_graph
from edgeattn.export.host import host_session
from edgeattn.export.trace import trace
from edgeattn.models.recurrence import linear_recurrence, operator
from edgeattn.models.reference import Reference
from edgeattn.runtime.manifest import TensorSpec


class SelectiveScan(nn.Module):
    """y_t = C h_t with h_t = exp(delta_t A) h_(t-1) + delta_t x_t, a state of 4 a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.delta = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        delta = torch.nn.functional.softplus(self.delta(x))[..., None]
        return linear_recurrence(torch.exp(-delta * torch.arange(1, 5)), (delta * x[..., None]).expand(-1, -1, -1, 4)).sum(-1)


def looped(a, b):
    state, states = torch.zeros(torch.broadcast_shapes(a[:, 0].shape, b[:, 0].shape), dtype=b.dtype), []
    for step in range(b.shape[1]):
        state = a[:, step] * state + b[:, step]
        states.append(state)
    return torch.stack(states, 1)


def random_pair(steps, a_shape=(3, 4), b_shape=(3, 4)):
    """a between -1.2 and 1.2 with a tenth of zeros, in double precision, so that only a wrong formula differs."""
    draw = torch.Generator().manual_seed(steps)
    a = 2.4 * torch.rand(2, steps, *a_shape, generator=draw, dtype=torch.float64) - 1.2
    a[torch.rand(a.shape, generator=draw) < 0.1] = 0
    return a, torch.randn(2, steps, *b_shape, generator=draw, dtype=torch.float64)


def program_of(steps):
    torch.manual_seed(0)
    module = SelectiveScan().eval()
    example = {"x": np.random.default_rng(0).standard_normal((2, steps, 3)).astype(np.float32)}
    specs = (TensorSpec(name="x", shape=("batch", steps, 3), dtype="float32"),)
    return trace(Reference("scan", lambda: module, specs, ("y",), "a test"), example)


class Decay(nn.Module):
    def forward(self, x):
        return linear_recurrence(torch.sigmoid(x), x)


@pytest.mark.parametrize("open_axes", [[0], [0, 2]], ids=["batch", "batch and channels"])
def test_channels_may_be_open_too(open_axes):
    example = {"x": np.random.default_rng(0).standard_normal((2, 40, 3)).astype(np.float32)}
    specs = (TensorSpec(name="x", shape=("batch", 40, 3), dtype="float32"),)
    program = trace(Reference("decay", Decay, specs, ("y",), "a test"), example, {"x": open_axes})
    wider = {"x": np.random.default_rng(1).standard_normal((3, 40, 5 if 2 in open_axes else 3)).astype(np.float32)}
    np.testing.assert_allclose(host_session(to_graph(program)).run(None, wider)[0], Decay()(torch.from_numpy(wider["x"])), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 64, 65, 97, 1000, 4096])
def test_every_length_equals_the_loop_with_zero_and_negative_factors(steps):
    a, b = random_pair(steps)
    torch.testing.assert_close(linear_recurrence(a, b), looped(a, b), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("a_shape", "b_shape"), [((1, 4), (3, 4)), ((3, 1), (3, 4)), ((3, 4), (1, 4))])
def test_factors_and_inputs_broadcast_over_all_but_the_steps(a_shape, b_shape):
    a, b = random_pair(130, a_shape, b_shape)
    torch.testing.assert_close(linear_recurrence(a, b), looped(a, b), rtol=1e-9, atol=1e-9)


def test_tiny_factors_leave_finite_states_in_single_precision():
    a, b = torch.full((1, 512, 1), 1e-30), torch.ones(1, 512, 1)
    torch.testing.assert_close(linear_recurrence(a, b), looped(a, b))


def test_gradients_are_the_loops():
    pair = random_pair(70, (1, 4), (3, 4))
    ours, theirs = ([x.clone().requires_grad_() for x in pair] for _ in range(2))
    weights = torch.randn(2, 70, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (linear_recurrence(*ours) * weights).sum().backward()
    (looped(*theirs) * weights).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-8)


def test_different_steps_are_refused():
    with pytest.raises(ValueError, match="equal steps"):
        linear_recurrence(torch.ones(1, 3, 2), torch.ones(1, 4, 2))


def test_a_trace_holds_one_node_and_a_graph_few_for_4096_steps():
    program = program_of(4096)
    assert [node.target for node in program.exported.graph.nodes].count(operator._opoverload) == 1
    assert len(list(to_graph(program).graph)) < 300


def test_the_graph_equals_the_module_for_every_batch_size():
    program = program_of(200)
    batches = [{"x": np.random.default_rng(size).standard_normal((size, 200, 3)).astype(np.float32)} for size in (1, 2, 5)]
    assert check_graph(to_graph(program), program, batches) < 1e-5
