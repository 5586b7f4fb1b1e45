"""Action chunks in a control loop: a policy that says several actions at once, ensembled in time and kept to a deadline.

    a_t = sum_i w_i chunk_i[t - t_i] / sum_i w_i,    w_i = exp(-m i),   i = 0 the oldest chunk that still reaches t

Temporal ensembling of Zhao et al., "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware" (arXiv 2304.13705, section 4). What a slow
inference says counts from the step that it was asked at, so of a late chunk the actions that are left are still used.

    with ChunkedControl(lambda x: session.run(observation=x[None], mode=mode)["actions"][0], deadline=0.002) as control:
        for step in range(steps):  # one object an episode
            robot.move(control.act(step, robot.observe()))
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np

from ..errors import EdgeattnError, InputError


class NoAction(EdgeattnError):
    """No chunk reaches this step: the first inference, or a whole chunk's length of them, missed their deadline. The robot should stop."""


class Ensemble:
    """Chunks (..., actions, size) by the step they begin at; decay: m, larger trusts older chunks more."""

    def __init__(self, decay: float = 0.01) -> None:
        self.decay, self._chunks = decay, dict[int, np.ndarray]()

    def add(self, start: int, chunk: np.ndarray) -> None:
        """Takes the actions for the steps start, start + 1 ..."""
        self._chunks[start] = chunk

    def action(self, step: int) -> np.ndarray:
        """The weighted mean (..., size) of what was said for `step`; forgets chunks that end before it. Raises NoAction where none reaches it."""
        self._chunks = {start: chunk for start, chunk in self._chunks.items() if step - start < chunk.shape[-2]}
        said = [chunk[..., step - start, :] for start, chunk in sorted(self._chunks.items()) if start <= step]
        if not said:
            raise NoAction(f"no action for step {step}: no chunk that was ready in time reaches it.")
        weights = np.exp(-self.decay * np.arange(len(said)))
        return np.tensordot(weights / weights.sum(), np.stack(said), 1)


class ChunkedControl:
    """The policy of a control loop: one inference at a time in a thread of its own, and an action by the deadline whether or not that is done.

    infer: observation → chunk (actions, size); deadline: seconds that `act` waits at most. `late` counts the steps whose inference was not done.
    Leaving the `with` statement waits for the inference that runs.
    """

    def __init__(self, infer: Callable[[np.ndarray], np.ndarray], deadline: float, decay: float = 0.01) -> None:
        if not deadline > 0:
            raise InputError(f"the deadline must be more than 0 seconds, not {deadline}.")
        self.infer, self.deadline, self.late, self.ensemble = infer, deadline, 0, Ensemble(decay)
        self._thread = ThreadPoolExecutor(1)
        self._asked: tuple[int, Future[np.ndarray]] | None = None

    def __enter__(self) -> ChunkedControl:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def act(self, step: int, observation: np.ndarray) -> np.ndarray:
        """The action (size,) for `step`, after at most the deadline; raises NoAction where no chunk reaches it, and whatever `infer` raised."""
        self._collect()
        if self._asked is None:
            self._asked = step, self._thread.submit(self.infer, observation.copy())
        wait((self._asked[1],), self.deadline)
        self.late += not self._collect()
        return self.ensemble.action(step)

    def _collect(self) -> bool:
        """Takes the chunk that was asked for, if it is ready."""
        if self._asked is None or not self._asked[1].done():
            return False
        (start, future), self._asked = self._asked, None
        self.ensemble.add(start, future.result())
        return True
