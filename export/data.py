"""The user's data: calibration samples from a file, or generated where there are none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..errors import InputError, first_line
from ..models.reference import Samples
from ..runtime.manifest import TensorSpec

LABELS = "labels"
FEWEST = 8  # samples: below, neither ranges nor the gate mean anything
HELD_OUT = 1 / 2  # share kept for the gate
INPUT = re.compile(r"^(?P<name>\w+)=(?P<shape>\d+(x\d+)*)(:(?P<dtype>\w+))?(:(?P<low>-?\d+)\.\.(?P<high>-?\d+))?$")


def read_samples(path: str | Path) -> Samples:
    """Arrays by input name from .npz or .safetensors, samples leading; an array called `labels` is the labels.

    Raises InputError for unreadable files, pickled arrays, unequal lengths, NaN or infinity (by array and index).
    """
    file = Path(path)
    try:
        if file.suffix == ".safetensors":
            arrays = load_file(file)
        else:
            with np.load(file, allow_pickle=False) as archive:
                if not hasattr(archive, "files"):
                    raise InputError(f"{file} holds one unnamed array: save it as np.savez(file, input_name=array).")
                arrays = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise InputError(f"calibration data {file} cannot be read: {error.strerror or error}.") from None
    except (ValueError, SafetensorError, EOFError) as error:
        raise InputError(f"calibration data {file} is no .npz or .safetensors file of plain arrays ({first_line(error, 200)}).") from None
    labels = arrays.pop(LABELS, None)
    _check(file, arrays, labels)
    return Samples(dict(arrays), labels)


def split(samples: Samples, seed: int = 0) -> tuple[Samples, Samples]:
    """(calibration, held out): halves of a seeded permutation; InputError for fewer than eight samples."""
    if len(samples) < FEWEST:
        raise InputError(f"{len(samples)} calibration samples are too few: give at least {FEWEST}, better some hundred.")
    order = np.random.default_rng(seed).permutation(len(samples))
    cut = len(samples) - int(len(samples) * HELD_OUT)
    return samples.take(np.sort(order[:cut])), samples.take(np.sort(order[cut:]))


def parse_inputs(texts: Sequence[str], seed: int = 0) -> dict[str, np.ndarray]:
    """`x=2x128x8`, `ids=2x128:int64:0..1000`, `mask=2x128:bool` → generated example arrays."""
    arrays = {}
    for text in texts:
        match = INPUT.match(text)
        if match is None:
            raise InputError(f"--input {text!r} is not of the form name=2x128x8, name=2x128:int64:0..1000 or name=2x128:bool.")
        shape = tuple(int(size) for size in match["shape"].split("x"))
        try:
            dtype = np.dtype(match["dtype"] or "float32")
        except TypeError:
            raise InputError(f"--input {text!r}: {match['dtype']!r} is no dtype; use float32, int64, bool ...") from None
        low, high = int(match["low"] or 0), int(match["high"] or 2)
        arrays[match["name"]] = _generate(shape, dtype, (low, high), np.random.default_rng(seed))
    return arrays


def parse_dynamic(texts: Sequence[str]) -> dict[str, tuple[int, ...]] | None:
    """`x:0,1` → {"x": (0, 1)}; None where nothing was given."""
    axes = {}
    for text in texts:
        name, _, numbers = text.partition(":")
        if not name or not re.fullmatch(r"\d+(,\d+)*", numbers):
            raise InputError(f"--dynamic {text!r} is not of the form input:axis,axis, such as x:0,1.")
        axes[name] = tuple(int(number) for number in numbers.split(","))
    return axes or None


class Profile(msgspec.Struct, frozen=True):
    """The least, usual and largest shape of one input: what an engine is built for and tuned on."""

    least: tuple[int, ...]
    usual: tuple[int, ...]
    largest: tuple[int, ...]

    @property
    def open_axes(self) -> tuple[int, ...]:
        """The axes whose size varies."""
        return tuple(axis for axis, (low, high) in enumerate(zip(self.least, self.largest, strict=True)) if low != high)


NO_PROFILES: Mapping[str, Profile] = {}


def parse_profiles(texts: Sequence[str]) -> dict[str, Profile]:
    """`x=1x128,4x128,8x512` → {"x": Profile}: least, usual and largest shape; one shape stands for all three."""
    profiles = {}
    for text in texts:
        name, _, listed = text.partition("=")
        if not name or not re.fullmatch(r"\d+(x\d+)*(,\d+(x\d+)*){0,2}", listed) or listed.count(",") == 1:
            raise InputError(f"--profile {text!r} is not of the form input=LEAST,USUAL,LARGEST, such as x=1x128,4x128,8x512.")
        shapes = [tuple(int(size) for size in shape.split("x")) for shape in listed.split(",")]
        profile = Profile(*(shapes if len(shapes) == 3 else 3 * shapes))
        ranks = {len(shape) for shape in shapes}
        if len(ranks) > 1 or not all(0 < a <= b <= c for a, b, c in zip(profile.least, profile.usual, profile.largest, strict=True)):
            raise InputError(f"--profile {text!r}: every size must grow from least over usual to largest, and be at least 1.")
        profiles[name] = profile
    return profiles


def check_profiles(profiles: Mapping[str, Profile], inputs: Sequence[TensorSpec]) -> None:
    """Raises InputError for a profile of an unknown input, of another rank, or that varies a fixed size."""
    known = {spec.name: spec.shape for spec in inputs}
    for name, profile in profiles.items():
        if name not in known:
            raise InputError(f"--profile names {name}, but the inputs are {', '.join(known)}.")
        shape = ", ".join(map(str, known[name]))
        if len(profile.least) != len(known[name]):
            raise InputError(f"--profile of {name} has {len(profile.least)} sizes, the input is ({shape}).")
        for axis, size in enumerate(known[name]):
            if isinstance(size, int) and not profile.least[axis] == profile.largest[axis] == size:
                raise InputError(f"--profile of {name} varies axis {axis}, which is {size} in the network: its shape is ({shape}).")


def generated_samples(example: Mapping[str, np.ndarray], count: int = 64, seed: int = 1) -> Samples:
    """Random inputs shaped like the example: normal floats, integers within the example's own range, booleans half true."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, array in example.items():
        bounds = (int(array.min()), int(array.max()) + 1) if array.dtype.kind in "iu" else (0, 2)
        arrays[name] = _generate((count, *array.shape[1:]), array.dtype, bounds, random)
    return Samples(arrays)


def mixed_samples(samples: Samples, count: int, seed: int = 1) -> Samples:
    """New inputs in the range of those given: each float is the one at its place in a sample of its own; the rest as `generated_samples` has it."""
    random, arrays = np.random.default_rng(seed), dict(generated_samples(samples.inputs, count, seed).inputs)
    for name, array in samples.inputs.items():
        if array.dtype.kind == "f":
            arrays[name] = np.take_along_axis(array, random.integers(len(array), size=arrays[name].shape), 0)
    return Samples(arrays)


def specs_of(samples: Samples) -> tuple[TensorSpec, ...]:
    """One specification per input, the leading axis named batch."""
    return tuple(TensorSpec(name=name, shape=("batch", *array.shape[1:]), dtype=str(array.dtype)) for name, array in samples.inputs.items())


def _generate(shape: tuple[int, ...], dtype: np.dtype, bounds: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        array = random.random(shape) < 0.5
        array[..., 0] = True  # a mask that drops everything has no answer
        return array
    return random.integers(bounds[0], max(bounds[1], bounds[0] + 1), shape).astype(dtype)


def _check(file: Path, arrays: Mapping[str, np.ndarray], labels: np.ndarray | None) -> None:
    if not arrays:
        raise InputError(f"{file} holds no input arrays.")
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if labels is not None:
        lengths[LABELS] = len(labels)
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{file}: all arrays must have the same number of samples on their first axis ({listed}).")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise InputError(f"{file}: array {name} holds {array[at]} at {at}: clean the data first.")
        if array.dtype.kind not in "fiub":
            raise InputError(f"{file}: array {name} has dtype {array.dtype}; inputs are floats, integers or booleans.")
