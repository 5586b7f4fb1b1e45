"""Purchases with attributes, from customers whose long and short interests are known.

A shop sells 24 categories of 16 items, cheap to dear. A customer has two favourite categories and a level of price that drifts slowly. Purchases
come in sessions: one lasts with probability 0.75 after each purchase and stays in its category with probability 0.85; a new one begins after days
and not minutes, in the first favourite (0.5), the second (0.3) or anywhere (0.2). So the time since the last purchase tells which interest counts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CATEGORIES, LEVELS, HISTORY = 24, 16, 70
ITEMS = CATEGORIES * LEVELS
FAVOURITES, STAYS, LASTS, SPREAD = (0.5, 0.3), 0.85, 0.75, 1.2


class Customers(NamedTuple):
    """items: (count, 71), the last bought next; gaps: (count, 70), log days after each; new: (count,), whether the last one begins a session;
    favourites: (count, 2) categories; level: (count,), the mean price level of what is bought next, before it is held to the shop's."""

    items: np.ndarray
    gaps: np.ndarray
    new: np.ndarray
    favourites: np.ndarray
    level: np.ndarray


def customers(count: int, seed: int) -> Customers:
    """Customers with 70 purchases each and the one after."""
    random = np.random.default_rng(seed)
    favourites = random.permuted(np.tile(np.arange(CATEGORIES), (count, 1)), axis=1)[:, :2]
    level, drift = random.uniform(3, 12, (2, count))
    new = random.random((count, HISTORY + 1)) > LASTS
    new[:, 0] = True
    share, anywhere = random.random((count, HISTORY + 1)), random.integers(CATEGORIES, size=(count, HISTORY + 1))
    begun = np.select(
        [share < FAVOURITES[0], share < sum(FAVOURITES)],
        [favourites[:, :1].repeat(HISTORY + 1, 1), favourites[:, 1:].repeat(HISTORY + 1, 1)],
        anywhere,
    )
    category = np.empty_like(anywhere)
    for step in range(HISTORY + 1):
        kept = category[:, step - 1] if step else begun[:, 0]
        category[:, step] = np.where(new[:, step], begun[:, step], np.where(share[:, step] < STAYS, kept, anywhere[:, step]))
    levels = level[:, None] + (drift - level)[:, None] * np.arange(HISTORY + 1) / HISTORY
    price = np.clip(np.rint(levels + random.normal(0, SPREAD, levels.shape)), 0, LEVELS - 1).astype(np.int64)
    gaps = np.where(new[:, 1:], random.normal(1.5, 0.7, (count, HISTORY)), random.normal(-4.0, 0.7, (count, HISTORY))).astype(np.float32)
    return Customers(category * LEVELS + price, gaps, new[:, -1], favourites, levels[:, -1])


def chances(known: Customers) -> np.ndarray:
    """(count, items): how probable each item is next, to one who knows the habits."""
    rows = np.arange(len(known.items))
    begun = np.full((len(rows), CATEGORIES), (1 - sum(FAVOURITES)) / CATEGORIES)
    for which, share in enumerate(FAVOURITES):
        begun[rows, known.favourites[:, which]] += share
    kept = np.full_like(begun, (1 - STAYS) / CATEGORIES)
    kept[rows, known.items[:, -2] // LEVELS] += STAYS
    category = np.where(known.new[:, None], begun, kept)
    price = np.exp(-0.5 * ((np.arange(LEVELS) - known.level[:, None]) / SPREAD) ** 2)
    return (category[:, :, None] * (price / price.sum(1, keepdims=True))[:, None]).reshape(len(rows), ITEMS)
