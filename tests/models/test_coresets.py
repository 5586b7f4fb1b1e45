"""Attention coresets: the algorithm's guarantees on random banks, the pass that uses it, and the field that is remembered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeattn.errors import InputError
from edgeattn.export.graph import to_graph
from edgeattn.export.host import host_session, serialise
from edgeattn.export.passes.compress_banks import banks, compress_banks
from edgeattn.export.trace import trace
from edgeattn.models import coresets
from edgeattn.models.registry import find
from edgeattn.models.training import plain_state
from edgeattn.runtime.coreset import attention, coreset


def bank(tokens, dim=8, seed=0):
    """Keys and values of norm 1, in random directions."""
    random = np.random.default_rng(seed)
    both = random.standard_normal((2, tokens, dim))
    return both / np.linalg.norm(both, axis=-1, keepdims=True)


def test_the_largest_error_falls_as_one_over_the_size_and_drawing_only_as_its_root():
    keys, values = bank(1024)
    queries = 2.0 * bank(500, seed=1)[0]
    sizes = (32, 64, 128, 256, 512)
    slopes = np.polyfit(np.log(sizes), np.log(coresets.errors(keys, values, queries, 2.0, sizes)), 1)[0]
    assert slopes[0] < -0.75
    assert -0.75 < slopes[1] < -0.4


def test_the_error_stays_below_the_papers_bound():
    keys, values = bank(1024)
    for reach in (2.0, 4.0):
        for size in (64, 256):
            error = coresets.errors(keys, values, reach * bank(500, seed=2)[0], reach, (size,))[0, 0]
            assert error <= np.sqrt(8) * np.exp(reach) / size


def test_leaving_one_of_two_equal_tokens_out_changes_little():
    keys, values = (np.repeat(x, 2, 0) for x in bank(20))
    queries = bank(50, seed=3)[0]
    kept = coreset(keys, values, 39)
    assert np.abs(attention(queries, keys[kept], values[kept]) - attention(queries, keys, values)).max() < 0.1


def test_a_coreset_is_so_many_different_tokens_in_order_and_repeats_with_its_seed():
    keys, values = bank(100)
    for size in (100, 77, 50, 1):
        kept = coreset(keys, values, size)
        assert len(kept) == size and (np.diff(kept) > 0).all()
        np.testing.assert_array_equal(kept, coreset(keys, values, size))


@pytest.mark.parametrize("size", [0, 101])
def test_a_size_that_cannot_be_is_refused(size):
    with pytest.raises(InputError, match="100 tokens"):
        coreset(*bank(100), size)


def test_attention_is_softmax_attention():
    keys, values = bank(30)
    queries = bank(5, seed=1)[0]
    expected = torch.nn.functional.scaled_dot_product_attention(*(torch.from_numpy(x)[None] for x in (queries, keys, values)), scale=1.0)[0]
    np.testing.assert_allclose(attention(queries, keys, values), expected.numpy())


@pytest.fixture(scope="module")
def whole():
    """The trained memory with every reading of its survey, traced."""
    learned, module = find("coresets").module(), coresets.whole()
    keys, values = (torch.from_numpy(array)[None] for array in coresets.whole_bank(learned))
    state = {**plain_state(learned), "keys": keys, "values": values}
    reference = replace(find("coresets"), build=lambda: module).with_state(state)
    return trace(reference, coresets.calibration().take(slice(0, 2)).inputs)


def test_the_pass_shrinks_a_constant_bank_and_keeps_what_attention_computes(whole):
    graph, inputs = to_graph(whole), coresets.evaluation().inputs
    before, full = len(serialise(graph)), host_session(graph).run(None, inputs)[0]
    assert compress_banks(graph, 256, coresets.calibration().inputs) == 1
    after = host_session(graph).run(None, inputs)[0]
    assert len(serialise(graph)) < before / 2
    assert np.linalg.norm(after - full) < 0.25 * np.linalg.norm(full)
    assert compress_banks(graph, 256, coresets.calibration().inputs) == 0


def test_the_pass_keeps_a_coreset_of_every_head(whole):
    graph = to_graph(whole)
    compress_banks(graph, 100, coresets.calibration().inputs)
    (node,) = banks(graph)
    kept, bank = (array.shape for array in (node.inputs[1].const_value.numpy(), coresets.whole_bank(find("coresets").module())[0]))
    assert kept == (1, bank[0], 100, bank[2])


def test_a_network_without_a_constant_bank_has_nothing_to_compress():
    reference = find("rpattention")
    part = reference.calibration().take(slice(0, 2)).inputs
    with pytest.raises(InputError, match="no attention of this network reads constant keys"):
        compress_banks(to_graph(trace(reference, part)), 16, part)


def test_the_field_falls_as_the_cube_of_the_distance():
    random = np.random.default_rng(0)
    far = 1000 * random.standard_normal((3, 2))
    far /= np.linalg.norm(far, axis=1, keepdims=True) / 1000
    level = coresets.field(1e9 * np.ones((1, 2)))  # what standardising took off
    ratio = np.linalg.norm(coresets.field(far) - level, axis=1) / np.linalg.norm(coresets.field(2 * far) - level, axis=1)
    np.testing.assert_allclose(ratio, 8, rtol=0.05)


def test_a_coreset_remembers_more_than_as_many_drawn_readings():
    held_out, reference = coresets.evaluation(), find("coresets")
    assert reference.reached < np.mean(np.square(coresets.outputs(reference.trained_twin(), held_out) - held_out.truth))


def test_the_field_is_beyond_a_linear_model():
    train, held_out = coresets.readings(2000, 4), coresets.evaluation()
    design = [np.c_[part.inputs["place"], np.ones(len(part))] for part in (train, held_out)]
    weights = np.linalg.lstsq(design[0], train.truth, rcond=None)[0]
    assert np.mean(np.square(design[1] @ weights - held_out.truth)) > 3 * find("coresets").reached
