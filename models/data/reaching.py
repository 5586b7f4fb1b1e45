"""A point robot that reaches a goal behind a round obstacle: an expert, and two ways to fail.

The arena is the unit square; a step is at most 0.04 long. observation: (robots, 7) float32: robot x, y, goal x, y, obstacle x, y, radius.
kind 0: the expert steers along the tangent of the obstacle, grown by a margin; 1, near miss: the margin is negative, so it clips the obstacle on a
good way; 2, nonsense: a random walk. Executed steps carry noise, so that demonstrations show how to come back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STEP, STEPS, NEAR = 0.04, 48, 0.04  # sides of the arena; steps of an episode; distance from the goal that counts as reached
MARGINS = (0.04, -0.05)

Policy = Callable[[np.ndarray, int], np.ndarray]  # observations (robots, 7), time → actions (robots, 2) in units of STEP


def starts(robots: int, seed: int) -> np.ndarray:
    """First observations: the robot on the left, the goal on the right, the obstacle near the straight way."""
    random = np.random.default_rng(seed)
    robot = np.stack([random.uniform(0.02, 0.15, robots), random.uniform(0.2, 0.8, robots)], 1)
    goal = np.stack([random.uniform(0.85, 0.98, robots), random.uniform(0.2, 0.8, robots)], 1)
    between = random.uniform(0.4, 0.65, (robots, 1))
    obstacle = (1 - between) * robot + between * goal + random.uniform(-0.08, 0.08, (robots, 2))
    return np.concatenate([robot, goal, obstacle, random.uniform(0.08, 0.16, (robots, 1))], 1).astype(np.float32)


def steer(observation: np.ndarray, margin: float) -> np.ndarray:
    """The expert's actions (robots, 2): straight to the goal, or along the nearer tangent of what is in the way; out of it, where inside."""
    robot, goal, middle, radius = observation[:, :2], observation[:, 2:4], observation[:, 4:6], observation[:, 6] + margin
    ahead, beside = goal - robot, middle - robot
    distance, far = np.linalg.norm(ahead, axis=1), np.linalg.norm(beside, axis=1)
    heading, towards = np.arctan2(ahead[:, 1], ahead[:, 0]), np.arctan2(beside[:, 1], beside[:, 0])
    off = (heading - towards + np.pi) % (2 * np.pi) - np.pi
    half = np.arcsin(np.clip(radius / np.maximum(far, 1e-6), 0, 1))
    blocked = (np.abs(off) < half) & (distance > np.sqrt(np.maximum(far**2 - radius**2, 0)))
    heading = np.where(blocked, towards + np.where(off >= 0, 1, -1) * half, heading)
    heading = np.where(far < radius, towards + np.where(off >= 0, 1, -1) * (np.pi / 2 + 0.5), heading)
    return np.stack([np.cos(heading), np.sin(heading)], 1) * np.minimum(1, distance / STEP)[:, None]


def roll(observation: np.ndarray, policy: Policy, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations (robots, steps, 7), actions (robots, steps, 2), and whether the goal was reached clear of the obstacle (robots,).

    noise: standard deviation of executed actions, in units of STEP; actions are cut to length 1.
    """
    random = np.random.default_rng(seed)
    now, seen, done = observation.copy(), [], []
    reached, hit = np.zeros((2, len(now)), bool)
    for time in range(STEPS):
        action = policy(now, time)
        seen.append(now.copy())
        done.append(action)
        moved = action / np.maximum(1, np.linalg.norm(action, axis=1, keepdims=True)) + noise * random.standard_normal(action.shape)
        now[:, :2] += (STEP * moved * ~reached[:, None]).astype(np.float32)
        hit |= np.linalg.norm(now[:, :2] - now[:, 4:6], axis=1) < now[:, 6]
        reached |= np.linalg.norm(now[:, :2] - now[:, 2:4], axis=1) < NEAR
    return np.stack(seen, 1), np.stack(done, 1), reached & ~hit


def demonstrations(robots: int, kind: int, seed: int, noise: float = 0.25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`roll` of one kind of demonstrator."""
    if kind < 2:
        return roll(starts(robots, seed), lambda now, _: steer(now, MARGINS[kind]), noise, seed)
    angle = np.cumsum(0.6 * np.random.default_rng(seed).standard_normal((robots, STEPS)), 1)
    return roll(starts(robots, seed), lambda _, time: np.stack([np.cos(angle[:, time]), np.sin(angle[:, time])], 1), noise, seed)
