"""SID-MLP: the cascade's order, beam search against brute force, the loss, and customers whose habits are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgeattn.models import sid_mlp
from edgeattn.models.data.semantic_ids import CODES, DIGITS, HISTORY, is_sold, purchases, transitions
from edgeattn.models.registry import find

SMALL = {"dim": 8, "heads": 2, "depth": 1, "codes": 3, "items": 4}


@pytest.fixture(params=[sid_mlp.SidMlp, sid_mlp.Teacher])
def small(request):
    torch.manual_seed(0)
    return request.param(**SMALL).eval()


def test_a_digit_depends_on_those_before_it_and_on_no_later_one(small):
    history, prefix = torch.randint(3, (5, 4, DIGITS)), torch.randint(3, (5, DIGITS - 1))
    for known in range(DIGITS - 1):
        other = prefix.clone()
        other[:, known] = (other[:, known] + 1) % 3
        before, after = small(history, prefix), small(history, other)
        torch.testing.assert_close(before[:, : known + 1], after[:, : known + 1])
        assert not torch.allclose(before[:, known + 1], after[:, known + 1])


def test_stepwise_decoding_equals_the_whole_forward_pass(small):
    history, prefix = torch.randint(3, (5, 4, DIGITS)), torch.randint(3, (5, DIGITS - 1))
    memory = small.memory(history)
    steps = torch.stack([small.step(memory, prefix[:, :known]) for known in range(DIGITS)], 1)
    torch.testing.assert_close(steps, small(history, prefix))


def test_a_wide_beam_search_equals_brute_force(small):
    history, every = torch.randint(3, (1, 4, DIGITS)), torch.tensor(list(itertools.product(range(3), repeat=DIGITS)))
    with torch.no_grad():
        joint = functional.log_softmax(small(history.expand(len(every), -1, -1), every[:, :-1]), -1).gather(2, every[..., None]).sum((1, 2))
        found = sid_mlp.beam_search(small, history, beams=27)[0]
    assert torch.equal(found, every[joint.argsort(descending=True)[:27]])


def test_a_student_that_repeats_its_teacher_pays_only_for_the_labels():
    torch.manual_seed(0)
    logits, digits = torch.randn(6, DIGITS, CODES), torch.randint(CODES, (6, DIGITS))
    labels = torch.cat([logits.softmax(-1), digits[..., None].float()], -1)
    torch.testing.assert_close(sid_mlp.distillation(logits, labels), 0.3 * sid_mlp.cross_entropy(logits, digits))
    assert sid_mlp.distillation(logits + torch.randn_like(logits), labels) > sid_mlp.distillation(logits, labels)


def test_customers_buy_what_is_sold_and_keep_their_habits():
    samples = purchases(4000, seed=5)
    items = np.concatenate([samples.inputs["history"], samples.truth[:, None]], 1)
    assert is_sold(items).all() and items.shape == (4000, HISTORY + 1, DIGITS)
    assert not is_sold((items + 1) % CODES).all()
    follows = (transitions()[:, items[:, :-1, 0]] == items[None, :, 1:, 0]).mean(-1).max(0)
    assert follows.mean() == pytest.approx(0.75 + 0.25 / CODES, abs=0.02)


def test_nearly_all_that_a_beam_search_finds_is_sold():
    history = torch.from_numpy(sid_mlp.evaluation().take(slice(0, 200)).inputs["history"])
    with torch.no_grad():
        found = sid_mlp.beam_search(find("sid_mlp").module(), history).numpy()
    assert is_sold(found).mean() > 0.9


def test_linear_scores_of_the_history_are_clearly_worse():
    data, held_out, accuracy = purchases(4000, seed=100), sid_mlp.evaluation(), []
    one = np.eye(CODES, dtype=np.float32)
    flat = [one[np.c_[part.inputs["history"].reshape(len(part), -1), part.inputs["prefix"]]].reshape(len(part), -1) for part in (data, held_out)]
    for digit in range(DIGITS):
        x, other = (part[:, : CODES * (DIGITS * HISTORY + digit)] for part in flat)
        weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1], dtype=np.float32), x.T @ one[data.truth[:, digit]])
        accuracy.append(100 * np.mean((other @ weights).argmax(1) == held_out.truth[:, digit]))
    assert np.mean(accuracy) < find("sid_mlp").reached - 10, f"linear scores reach {accuracy}"
