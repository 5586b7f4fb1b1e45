"""Areas that a vehicle has to sweep, and good routes through them by local search and dynamic programming.

An area is a rectangle swept in parallel strips: entered at one of its 4 corners, with strips along x or along y. Each of these 8 options has
an entry, an exit and a length swept in between; an area without extent is a plain stop. Node 0 is the depot, a stop.

    length(route) = sum_i work_i + |exit_i - entry_(i+1)|,   the last exit back to the depot

options: (problems, nodes, 8, 5) float32: entry x, y, exit x, y, work, in sides of the map; a choice is 8 node + option;
a route: (problems, nodes) choices.
"""

from __future__ import annotations

import numpy as np

OPTIONS = 8
SWATH = 0.02  # sides of the map: width of a strip
CORNERS = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)])


def fields(problems: int, nodes: int, seed: int, extent: float = 0.06) -> np.ndarray:
    """Random maps: centres uniform in the unit square, half sides uniform in [0, extent]; extent 0 gives plain stops."""
    random = np.random.default_rng(seed)
    centre = random.random((problems, nodes, 2))
    half = extent * random.random((problems, nodes, 2))
    half[:, 0] = 0
    parts = []
    for corner in CORNERS:
        for along in (0, 1):
            across = 1 - along
            strips = np.maximum(1, np.ceil(2 * half[..., across] / SWATH - 1e-9))
            side = np.where(strips % 2 == 1, -1, 1)
            leave = np.empty_like(centre)
            leave[..., along] = corner[along] * side * half[..., along]
            leave[..., across] = -corner[across] * half[..., across]
            work = strips * 2 * half[..., along] + (strips - 1) * SWATH
            parts.append(np.concatenate([centre + corner * half, centre + leave, work[..., None]], -1))
    return np.stack(parts, 2).astype(np.float32)


def length(options: np.ndarray, route: np.ndarray) -> np.ndarray:
    """(problems,): what routes that begin at the depot cost, the way back included."""
    flat = options.reshape(len(options), -1, 5).astype(np.float64)
    taken = np.take_along_axis(flat, route[..., None], 1)
    travel = np.linalg.norm(taken[..., 2:4] - np.roll(taken[..., :2], -1, 1), axis=-1)
    return (travel + taken[..., 4]).sum(1)


def search(options: np.ndarray, starts: int = 4, seed: int = 0) -> np.ndarray:
    """Good routes: node orders by 2-opt and node insertion from random orders, both directions, then the best options of each order."""
    problems, nodes = options.shape[:2]
    random = np.random.default_rng(seed)
    centre = options[..., :2].mean(2).astype(np.float64)
    distance = np.linalg.norm(centre[:, :, None] - centre[:, None], axis=-1)
    best, best_length = np.zeros((problems, nodes), np.int64), np.full(problems, np.inf)
    for _ in range(starts):
        order = improve(distance, np.argsort(random.random((problems, nodes)), 1))
        order = np.take_along_axis(order, (np.arange(nodes) + np.argmin(order, 1)[:, None]) % nodes, 1)
        for one in (order, np.concatenate([order[:, :1], order[:, :0:-1]], 1)):
            route = choose_options(options, one)
            found = length(options, route)
            better = found < best_length
            best[better], best_length[better] = route[better], found[better]
    return best


def improve(distance: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Closed tours (problems, nodes) after the best 2-opt or insertion move, again and again, until none shortens them."""
    problems, nodes = order.shape
    order, active = order.copy(), np.arange(problems)
    places = np.arange(nodes)
    after = (places + 1) % nodes
    upper = np.triu(np.ones((nodes, nodes), bool), 1)
    while len(active):
        here = order[active]
        near = np.take_along_axis(np.take_along_axis(distance[active], here[:, :, None], 1), here[:, None, :], 2)
        step = near[:, places, after]
        turn = np.where(upper, near + near[:, after][:, :, after] - step[:, :, None] - step[:, None], 0.0)
        before = places - 1
        gain = step[:, before] + step - near[:, before, after]  # of taking node i out
        insert = near + near[:, :, after] - step[:, None] - gain[:, :, None]
        insert[:, places, places] = insert[:, places, before] = 0.0
        moves = np.stack([turn, insert], 1).reshape(len(active), -1)
        pick = moves.argmin(1)
        better = moves[np.arange(len(active)), pick] < -1e-9
        kind, i, j = np.unravel_index(pick, (2, nodes, nodes))
        i, j = i[:, None], j[:, None]
        turned = np.where((places > i) & (places <= j), i + 1 + j - places, places)
        # Node i moves between j and j + 1: the nodes between its old and its new place close up.
        forward = np.where((places >= i) & (places < j), places + 1, np.where(places == j, i, places))
        back = np.where((places > j + 1) & (places <= i), places - 1, np.where(places == j + 1, i, places))
        moved = np.where(kind[:, None] == 0, turned, np.where(j > i, forward, back))
        order[active[better]] = np.take_along_axis(here, moved, 1)[better]
        active = active[better]
    return order


def choose_options(options: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The cheapest option of every node for given orders (problems, nodes) from the depot, by dynamic programming: routes."""
    rows = np.arange(len(order))[:, None]
    taken = options[rows, order].astype(np.float64)
    nodes = order.shape[1]
    cost = np.zeros((len(order), OPTIONS)) + taken[:, 0, :, 4]
    cost[:, 1:] = np.inf  # the depot's options are all the same
    came = np.zeros((len(order), nodes, OPTIONS), np.int64)
    for place in range(1, nodes):
        travel = np.linalg.norm(taken[:, place - 1, :, None, 2:4] - taken[:, place, None, :, :2], axis=-1)
        total = cost[:, :, None] + travel
        came[:, place] = total.argmin(1)
        cost = total.min(1) + taken[:, place, :, 4]
    last = (cost + np.linalg.norm(taken[:, -1, :, 2:4] - taken[:, 0, :1, :2], axis=-1)).argmin(1)
    chosen = np.zeros_like(order)
    for place in range(nodes - 1, -1, -1):
        chosen[:, place] = last
        last = came[rows[:, 0], place, last]
    return order * OPTIONS + chosen
