"""Moving skeletons before a camera: a tree of 16 joints with known bones, angles and positions."""

from __future__ import annotations

import numpy as np

# pelvis; right hip, knee, ankle; left hip, knee, ankle; spine, chest, head; left shoulder, elbow, wrist; right shoulder, elbow, wrist
PARENTS = np.array([-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 8, 10, 11, 8, 13, 14])
OFFSETS = np.array(
    [
        [0, 0, 0], [-0.13, 0, 0], [0, -0.44, 0], [0, -0.43, 0], [0.13, 0, 0], [0, -0.44, 0], [0, -0.43, 0], [0, 0.23, 0],
        [0, 0.25, 0], [0, 0.28, 0], [0.16, 0.02, 0], [0.28, 0, 0], [0.25, 0, 0], [-0.16, 0.02, 0], [-0.28, 0, 0], [-0.25, 0, 0],
    ]
)  # fmt: skip
SWING = np.array([0.2, 0.5, 0, 0.3, 0.5, 0, 0.3, 0.25, 0.25, 0.3, 0.7, 0, 0.5, 0.7, 0, 0.5])  # radians, of each joint's rotation
HINGES = {2: (1, 0, 0), 5: (1, 0, 0), 11: (0, -1, 0), 14: (0, 1, 0)}  # knees bend backwards, elbows forwards
BEND = 1.6  # radians, the most of a hinge
JOINTS, DISTANCE = len(PARENTS), 4.0  # metres between camera and pelvis


def rotations(vectors: np.ndarray) -> np.ndarray:
    """Rodrigues' formula: axis times angle, (..., 3), to matrices, (..., 3, 3)."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vectors / np.maximum(angle[..., 0], 1e-9), -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)


def motions(count: int, frames: int, seed: int, noise: float = 0.004) -> tuple[np.ndarray, np.ndarray]:
    """(image points (count, frames, joints, 2), joints relative to the pelvis in metres (count, frames, joints, 3)), float32.

    Every joint turns by slow harmonics of its own, knees and elbows as hinges that bend one way only, without which a pose and its mirror
    image in depth would look nearly alike. Bodies differ by 10 % in size, headings by any angle. Image points are perspective projections,
    scaled to metres at the pelvis' distance, with a detector's noise of that standard deviation in metres.
    """
    random = np.random.default_rng(seed)
    time = np.arange(frames)[None, :, None, None] / 12.0
    rest, swing, turn = (random.standard_normal((count, 1, JOINTS, 3)) for _ in range(3))
    wave = np.sin(2 * np.pi * random.uniform(0.3, 0.9, (count, 1, JOINTS, 1)) * time + 2 * turn)
    vectors = SWING[:, None] * (0.6 * rest + swing * wave)
    for joint, axis in HINGES.items():
        vectors[:, :, joint] = BEND / 2 * (1 + wave[:, :, joint, :1]) * np.array(axis)
    heading = np.zeros((count, 1, 3))
    heading[..., 1] = random.uniform(-np.pi, np.pi, (count, 1))
    local = rotations(vectors)
    local[:, :, 0] = rotations(np.broadcast_to(heading, (count, frames, 3))) @ local[:, :, 0]
    size = random.uniform(0.9, 1.1, (count, 1, 1))
    position, turned = np.zeros((count, frames, JOINTS, 3)), local.copy()
    for joint in range(1, JOINTS):
        parent = PARENTS[joint]
        position[:, :, joint] = position[:, :, parent] + size * (turned[:, :, parent] @ OFFSETS[joint])
        turned[:, :, joint] = turned[:, :, parent] @ local[:, :, joint]
    depth = DISTANCE + position[..., 2:]
    image = DISTANCE * position[..., :2] / depth + noise * random.standard_normal((count, frames, JOINTS, 2))
    return image.astype(np.float32), position.astype(np.float32)


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    """(..., joints, 3) → (..., joints - 1), in metres."""
    return np.linalg.norm(joints[..., 1:, :] - joints[..., PARENTS[1:], :], axis=-1)
