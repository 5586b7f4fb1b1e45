"""UniPrefill: its scores and blocks, the limit without dropping, and the texts it is judged on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from edgeattn.models import uniprefill as system
from edgeattn.models.data.needles import NAMES, QUESTIONS, needles
from edgeattn.models.layers import split_heads


@pytest.fixture(scope="module")
def decoder():
    return system.REFERENCE.module()


@pytest.fixture(scope="module")
def tokens():
    return torch.from_numpy(system.evaluation().inputs["tokens"][:6])


@torch.no_grad()
def test_scores_are_the_last_queries_attention_by_block(decoder, tokens):
    x, block = decoder.embed(tokens), decoder.blocks[1]
    q, k = (split_heads(layer(block.norm1(x)), 2) for layer in (block.attention.query, block.attention.key))
    logits = (q @ k.transpose(-1, -2) / 4).masked_fill(torch.ones(128, 128).triu(1) > 0, float("-inf"))
    expected = logits.softmax(-1)[:, :, -QUESTIONS:].mean((1, 2)).reshape(6, 16, 8).mean(-1)
    torch.testing.assert_close(decoder.scores(x), expected)
    torch.testing.assert_close(8 * expected.sum(1), torch.ones(6))


def test_the_first_block_and_the_last_are_kept_and_the_order_of_the_text(decoder):
    scores = torch.rand(50, 16, generator=torch.Generator().manual_seed(0)) / system.BLOCK
    kept = decoder.keep(scores, 6)
    assert (kept[:, 0] == 0).all() and (kept[:, -1] == 15).all() and (kept.diff(dim=1) > 0).all()
    middle = scores[:, 1:-1].topk(4).indices.sort(1).values + 1
    assert torch.equal(kept[:, 1:-1], middle)


def test_tokens_of_blocks_are_consecutive():
    x = torch.arange(2 * 32.0).reshape(2, 32, 1)
    kept = system.of_blocks(x, torch.tensor([[0, 3], [1, 2]]))[..., 0]
    assert kept[0].tolist() == [*range(8), *range(24, 32)] and kept[1].tolist() == list(range(40, 56))


@torch.no_grad()
def test_a_budget_of_every_block_is_the_whole_prompt(decoder, tokens):
    every = system.Decoder(budget=16).eval()
    every.load_state_dict(decoder.state_dict())
    torch.testing.assert_close(every(tokens), system.REFERENCE.trained_twin()(tokens), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_dropped_token_does_not_reach_the_later_layers(decoder, tokens):
    seen = []
    handles = [block.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1])) for block in decoder.blocks]
    decoder(tokens)
    for handle in handles:
        handle.remove()
    assert seen == [128, 128, 48, 48]


def test_answers_follow_the_facts_of_the_text():
    tokens, answers, facts = needles(30, seed=3)
    assert set(facts.ravel()) == {1, 2}
    for text, told, taken in zip(tokens, answers, facts, strict=True):
        body = text[:-QUESTIONS]
        said = {int(x): int(y) for x, y in pairwise(body) if x < NAMES and y < NAMES}
        assert len(said) == 6
        for question, answer, count in zip(text[-QUESTIONS:], told, taken, strict=True):
            reached = said[int(question)]
            assert answer == (reached if count == 1 else said[reached])


def test_the_task_is_beyond_a_linear_classifier_of_the_words_in_the_text():
    from sklearn.linear_model import RidgeClassifier

    def flat(samples):
        hot = np.eye(NAMES)
        words = np.stack([np.isin(np.arange(NAMES), text[:-QUESTIONS]) for text in samples.inputs["tokens"]]).astype(float)
        asked = hot[samples.inputs["tokens"][:, -QUESTIONS:]].reshape(-1, NAMES)
        return np.concatenate([words.repeat(QUESTIONS, 0), asked], 1), samples.truth.ravel()

    linear = 100 * RidgeClassifier().fit(*flat(system.samples(200, 5))).score(*flat(system.samples(100, 6)))
    assert linear < system.REFERENCE.reached - 30, f"a linear classifier reaches {linear:.1f}"
