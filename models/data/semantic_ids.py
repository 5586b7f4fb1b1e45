"""Purchases by item identifiers of four digits, from customers whose habits are known.

The catalogue is a tree: 16 departments (digit 1), below each node a few children whose digits are drawn once (4, 4 and 2 of the 16).
A customer has a type (4) and a style (4). The next department is next[type, last] with probability `loyalty`, else any; the child below it is
the style's with probability 0.8, else any; the third digit continues the last item's branch by one; the fourth is a coin's.
So digit 1 is the uncertain one, and what follows is told by the history.
"""

from __future__ import annotations

import numpy as np

from ..reference import Samples

CODES, DIGITS, HISTORY = 16, 4, 8
BRANCHES = (4, 4, 2)  # children below a node of level 1, 2, 3
TYPES, STYLES = 4, 4


def catalogue() -> list[np.ndarray]:
    """The digits of each node's children: (16, 4), (16, 4, 4) and (16, 4, 4, 2), distinct below one node."""
    random = np.random.default_rng(11)
    shapes = ((CODES,), (CODES, 4), (CODES, 4, 4))
    return [
        np.stack([random.permutation(CODES)[:wide] for _ in range(int(np.prod(shape)))]).reshape(*shape, wide)
        for shape, wide in zip(shapes, BRANCHES, strict=True)
    ]


def transitions() -> np.ndarray:
    """next[type, department]: one permutation of the departments for each type, (4, 16)."""
    random = np.random.default_rng(12)
    return np.stack([random.permutation(CODES) for _ in range(TYPES)])


def purchases(count: int, seed: int, loyalty: float = 0.75) -> Samples:
    """history: (count, 8, 4) items; prefix: (count, 3), the first digits of the ninth item; labels: (count, 4), that item."""
    random = np.random.default_rng(seed)
    children, follow = catalogue(), transitions()
    kind, style = random.integers(TYPES, size=count), random.integers(STYLES, size=count)
    department, branch = random.integers(CODES, size=count), random.integers(BRANCHES[1], size=count)
    items = np.empty((count, HISTORY + 1, DIGITS), np.int64)
    for step in range(HISTORY + 1):
        loyal = random.random(count) < loyalty
        department = np.where(loyal, follow[kind, department], random.integers(CODES, size=count))
        first = np.where(random.random(count) < 0.8, style, random.integers(BRANCHES[0], size=count))
        branch = (branch + 1) % BRANCHES[1]
        last = random.integers(BRANCHES[2], size=count)
        items[:, step] = np.stack(
            [department, children[0][department, first], children[1][department, first, branch], children[2][department, first, branch, last]], 1
        )
    return Samples({"history": items[:, :HISTORY], "prefix": items[:, HISTORY, : DIGITS - 1].copy()}, items[:, HISTORY])


def is_sold(items: np.ndarray) -> np.ndarray:
    """Whether each identifier, (..., 4), is in the catalogue."""
    children = catalogue()
    first = items[..., 1, None] == children[0][items[..., 0]]
    second = items[..., 2, None] == children[1][items[..., 0], first.argmax(-1)]
    third = items[..., 3, None] == children[2][items[..., 0], first.argmax(-1), second.argmax(-1)]
    return first.any(-1) & second.any(-1) & third.any(-1)
