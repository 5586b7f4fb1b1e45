"""Running a bundle inside another program."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, MissingError
from .bundle import Bundle
from .engines import open_engine
from .manifest import TensorSpec
from .tuned import Choice, recall

if TYPE_CHECKING:
    from .decode import Cost, Decoded, Strategy

AXES = "abcdefghijklmnopqrstuvwxyz"  # names for einsum
NEVER: tuple[int, ...] = (-1,)  # no array's shape
SMALL = 8192  # elements: up to here a dot product starts sooner than einsum; BLAS may spread larger ones over threads


def load(path: str | Path, threads: int | None = None) -> Session:
    """Opens a bundle for running; every file is hashed first.

    The form that `edgeattn tune` found to be the fastest here, else the bundle's own. threads: computing threads (None: what was tuned, else 1, so
    that a robot's other work keeps its cores). Raises BundleError, naming the file, for a bundle that was changed; MissingError where its engine is
    not installed.
    """
    bundle = Bundle.open(path)
    choice = recall(bundle.manifest)
    if choice is not None:
        session = _tuned(bundle, choice, threads)
        if session is not None:
            return session
    return Session(bundle, threads)


def _tuned(bundle: Bundle, choice: Choice, threads: int | None) -> Session | None:
    """The tuned form; None, with a warning, where its engine is no longer the one that was measured."""
    form = bundle.forms()[choice.variant]
    measured = choice.engines.get(form.manifest.engine, "")
    try:
        session = Session(form, threads or choice.threads)
    except MissingError:
        here = "missing"
    else:
        here = session.engine.version
        if here == measured:
            return session
    warnings.warn(f"{bundle.path} was tuned with {measured}, which is {here} now: run `edgeattn tune` again.", stacklevel=3)
    return None


class Session:
    """A loaded bundle. `run` may be called from several threads at once; it keeps no state between calls.

    Inputs are taken as they are, without a copy: the exact dtype of the manifest and C order, or one clear sentence.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}.")
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.threads = threads or 1
        self.engine = open_engine(bundle, self.threads)
        self._outputs = [spec.name for spec in self.manifest.outputs]
        self._checks = [_InputCheck(spec) for spec in self.manifest.inputs]
        self._known = [(check.name, check.dtype, NEVER, check.total) for check in self._checks]  # of the last call, which kept the contract
        self.names = {spec.name for spec in self.manifest.inputs}
        self._trains = getattr(self.engine, "trains", None)
        self._events = [spec for spec in self.manifest.inputs if spec.shape[:2] == ("batch", "steps")] if self._trains else []

    def run(self, *args: np.ndarray, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """One inference: arrays by input name (or in the manifest's order) in, arrays by output name out.

        A spiking bundle takes batches of frames (n, steps, ...), and also one sample's frames (steps, ...) or its events, a structured array
        with fields t (us), x, y, p; outputs then have no leading axis either.
        Raises InputError that names the input for a missing or unknown name, another shape or dtype, NaN or infinity.
        """
        checked, single = self._checked(args, inputs)
        outputs = self.engine.run(checked)
        return dict(zip(self._outputs, [output[0] for output in outputs] if single else outputs, strict=True))

    def trains(self, *args: np.ndarray, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Every population's spikes by name, (n, steps, neurons) uint8, of a spiking bundle; inputs and errors as in `run`."""
        if self._trains is None:
            raise InputError(f"bundle {self.bundle.path} runs on {self.engine.version}: it has no spikes to show.")
        checked, single = self._checked(args, inputs)
        found: dict[str, np.ndarray] = self._trains(checked)
        return {name: train[0] for name, train in found.items()} if single else found

    def decode(
        self, step: Session, strategy: Strategy = "greedy", *, width: int = 16, deadline: float | None = None,
        cost: Cost | None = None, seed: int = 0, **inputs: np.ndarray,
    ) -> Decoded:  # fmt: skip
        """One sequence of choices: this bundle encodes the inputs of one problem once, `step` scores each next choice.

        strategy: greedy; sample, rounds of `width` draws; beam, beams up to `width`. deadline: seconds to go on searching for; greedy decoding is
        always completed. cost: what choices (rows, nodes) cost, (rows,); by default the likeliest is best. `runtime.decode` says what a step is.
        Raises InputError where the two do not fit together.
        """
        from .decode import decode

        return decode(self, step, inputs, strategy, width, deadline, cost, seed)

    def _checked(self, args: tuple[np.ndarray, ...], inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], bool]:
        """Inputs that keep the manifest's contract, and whether a batch axis had to be added."""
        if args:
            inputs = self._named(args, inputs)
        if inputs.keys() != self.names:
            raise InputError(self._wrong_names(inputs))
        single = bool(self._events) and self._batch_events(inputs)
        for name, dtype, shape, total in self._known:  # one loop without calls of our own: every line costs most in a loop that sleeps
            array = inputs[name]
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape or not isfinite(total(array)):
                self._check(inputs)
                break
        return inputs, single

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        """The whole contract; what keeps it is what the next call's inputs are compared with."""
        sizes: dict[str, tuple[int, str]] = {}
        for check in self._checks:
            check(inputs[check.name], sizes)
        self._known = [(check.name, check.dtype, inputs[check.name].shape, check.total) for check in self._checks]

    def _batch_events(self, inputs: dict[str, np.ndarray]) -> bool:
        from .events import batched

        single = False
        for spec in self._events:
            inputs[spec.name], single = batched(inputs[spec.name], spec)
        return single

    def _named(self, args: tuple[np.ndarray, ...], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [check.name for check in self._checks]
        if len(args) > len(names):
            raise InputError(f"{len(args)} inputs were given, the bundle takes {len(names)}: {', '.join(names)}.")
        return {**dict(zip(names, args, strict=False)), **inputs}

    def _wrong_names(self, inputs: Mapping[str, Any]) -> str:
        missing, unknown = sorted(self.names - inputs.keys()), sorted(inputs.keys() - self.names)
        parts = [f"{word} {', '.join(names)}" for word, names in (("missing", missing), ("unknown", unknown)) if names]
        return f"wrong inputs ({'; '.join(parts)}): the bundle takes {', '.join(check.name for check in self._checks)}."


class _InputCheck:
    """One input's contract. total: a number that is NaN or infinite if any of an array's values is; it may also overflow."""

    def __init__(self, spec: TensorSpec) -> None:
        self.name = spec.name
        self.dtype = np.dtype(spec.dtype)
        self.shape = spec.shape
        self.fixed = [(axis, size) for axis, size in enumerate(spec.shape) if isinstance(size, int)]
        self.named = [(axis, size) for axis, size in enumerate(spec.shape) if isinstance(size, str)]
        self.total = _total(self.dtype, len(spec.shape))

    def __call__(self, array: object, sizes: dict[str, tuple[int, str]]) -> None:
        """sizes: of named axes met so far, and the input that had them."""
        if not isinstance(array, np.ndarray) or array.dtype != self.dtype:
            given = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"input {self.name} is {given}, the bundle takes a numpy array of {self.dtype}: convert it with .astype.")
        shape = array.shape
        if len(shape) != len(self.shape) or any(shape[axis] != size for axis, size in self.fixed) or 0 in shape:
            raise InputError(f"input {self.name} has shape {shape}, the bundle takes ({', '.join(map(str, self.shape))}).")
        for axis, label in self.named:
            size, other = sizes.setdefault(label, (shape[axis], self.name))
            if size != shape[axis]:
                raise InputError(f"inputs {other} and {self.name} disagree on axis {label!r}: {size} and {shape[axis]}.")
        if not isfinite(self.total(array)):
            self._find_bad(array)

    def _find_bad(self, array: np.ndarray) -> None:
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            raise InputError(f"input {self.name} holds {array[at]} at {at} ({len(bad)} such values): check the sensor or the preprocessing.")


def _total(dtype: np.dtype, rank: int) -> Callable[[np.ndarray], float]:
    """Made without a copy or a warning."""
    if dtype.kind != "f":
        return lambda array: 0.0
    summed = f"{AXES[:rank]}->"
    if dtype not in (np.float32, np.float64):
        return lambda array: float(np.einsum(summed, array))
    return lambda array: np.vdot(array, array) if array.size <= SMALL else np.einsum(summed, array)  # type: ignore[no-any-return]
