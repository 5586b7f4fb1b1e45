"""Recordings of event cameras in the formats that data sets come in: a folder with one sub-folder a class → samples of a spiking network.

.aedat4   iniVation, DVS and DAVIS cameras                      through the package aedat
.mat      ASL-DVS: ts, x, y, pol, rows counted from below       through scipy
.bin      N-MNIST: five bytes an event (Orchard et al., 2015)
.npz      fields t, x, y, p, or one structured array of them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingError, first_line
from ..models.reference import Samples
from ..models.saliency import SHARE, cut_out, region
from ..runtime.events import EVENT, frames
from ..runtime.manifest import TensorSpec

ASL_DVS, N_MNIST = (180, 240), (34, 34)  # sensors (h, w)
N_MNIST_OVERFLOW = 240  # in the row: no event, time goes on by 2^13 us


@dataclass(frozen=True)
class Recording:
    """events: fields of `EVENT` in the order of time, t in us from the first one; sensor: (h, w)."""

    events: np.ndarray
    sensor: tuple[int, int]


def read_recording(path: Path) -> Recording:
    """One file; InputError that names it for another format, a broken file or no events, MissingError without aedat."""
    if path.suffix not in READERS:
        raise InputError(f"{path} is no recording that is known here ({', '.join(READERS)}).")
    try:
        columns, sensor = READERS[path.suffix](path)
        missing = [name for name in EVENT.names or () if name not in columns]
        if missing:
            raise InputError(f"it lacks {', '.join(missing)}")
        events = np.empty(len(columns["t"]), EVENT)
        for name in EVENT.names or ():
            column = np.ravel(np.asarray(columns[name]))
            events[name] = column if name != "t" else column.astype(np.int64)
    except MissingError:
        raise
    except Exception as error:  # scipy, aedat and numpy raise whatever they meet in a broken file
        raise InputError(f"recording {path} cannot be read as {path.suffix} ({first_line(error, 150)}).") from None
    if not len(events):
        raise InputError(f"recording {path} holds no events.")
    events = events[np.argsort(events["t"], kind="stable")]
    events["t"] -= events["t"][0]
    return Recording(events, sensor or (int(events["y"].max()) + 1, int(events["x"].max()) + 1))


def read_recordings(folder: Path, spec: TensorSpec, window: int, side: int | None = None) -> Samples:
    """The first `window` ms of every recording under folder/CLASS/ as frames of the network's input, and the classes as labels.

    Labels count the sub-folders in the order of their names, or are the names where all are numbers. A sensor larger than the input is
    searched for its most salient place (`models/saliency.py`), of which `side` pixels are cut out (None: the paper's share of its height)
    and scaled; a smaller one is put in the middle.
    """
    size = tuple(spec.shape[2:])
    if spec.shape[1] != "steps" or len(size) not in (2, 3):
        raise InputError(f"{folder} is a folder of recordings, but the network takes {spec.name} {spec.shape}: give an .npz file of its inputs.")
    if not 1 <= window <= 10_000:
        raise InputError(f"a window of {window} ms was asked for: give 1 to 10000.")
    shape = tuple(int(axis) for axis in size)
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    numbers = {name: int(name) if all(other.isdigit() for other in classes) else index for index, name in enumerate(classes)}
    samples, labels = [], []
    for name in classes:
        for path in sorted(entry for entry in (folder / name).iterdir() if entry.suffix in READERS):
            samples.append(frames(_fitted(read_recording(path), (shape[-2], shape[-1]), window, side), shape, window))
            labels.append(numbers[name])
    if not samples:
        raise InputError(f"{folder} holds no recordings: they are looked for as {folder.name}/CLASS/*{{{','.join(READERS)}}}.")
    return Samples({spec.name: np.stack(samples)}, np.array(labels, np.int64))


def _fitted(recording: Recording, size: tuple[int, int], window: int, side: int | None) -> np.ndarray:
    """The recording's first `window` ms as events of a sensor of `size`."""
    events, sensor = recording.events[recording.events["t"] < 1000 * window], recording.sensor
    if sensor[0] <= size[0] and sensor[1] <= size[1]:
        moved = events.copy()
        moved["x"] += (size[1] - sensor[1]) // 2
        moved["y"] += (size[0] - sensor[0]) // 2
        return moved
    if size[0] != size[1]:
        raise InputError(f"regions of interest are square; the network takes {size[0]} x {size[1]}: crop the recordings yourself.")
    return cut_out(events, sensor, region(events, sensor, window), side or round(SHARE * min(sensor)), size[0])


Columns = tuple[Mapping[str, np.ndarray], tuple[int, int] | None]


def _aedat4(path: Path) -> Columns:
    try:
        import aedat
    except ImportError:
        raise MissingError("AEDAT4 files are read with aedat: pip install 'edgeattn[events]'.") from None
    decoder = aedat.Decoder(str(path))
    streams = {key: stream for key, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
    if not streams:
        raise InputError("it has no stream of events")
    wanted = min(streams)
    found = np.concatenate([packet["events"] for packet in decoder if packet["stream_id"] == wanted])
    columns = {"t": found["t"], "x": found["x"], "y": found["y"], "p": found["on"]}
    return columns, (streams[wanted]["height"], streams[wanted]["width"])


def _mat(path: Path) -> Columns:
    from scipy.io import loadmat

    found = loadmat(path)
    return {"t": found["ts"], "x": found["x"], "y": ASL_DVS[0] - 1 - found["y"].astype(np.int64), "p": found["pol"]}, ASL_DVS


def _bin(path: Path) -> Columns:
    raw = path.read_bytes()
    if len(raw) % 5:
        raise InputError(f"{len(raw)} bytes are no multiple of 5")
    x, y, first, second, third = np.frombuffer(raw, np.uint8).reshape(-1, 5).astype(np.int64).T
    t = ((first & 127) << 16 | second << 8 | third) + (np.cumsum(y == N_MNIST_OVERFLOW) << 13)
    event = y != N_MNIST_OVERFLOW
    return {"t": t[event], "x": x[event], "y": y[event], "p": first[event] >> 7}, N_MNIST


def _npz(path: Path) -> Columns:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if len(arrays) == 1:
        (array,) = arrays.values()
        if array.dtype.names:
            return {name: array[name] for name in array.dtype.names}, None
    sensor = arrays.pop("sensor", None)
    return arrays, None if sensor is None else (int(sensor[0]), int(sensor[1]))


READERS: dict[str, Callable[[Path], Columns]] = {".aedat4": _aedat4, ".mat": _mat, ".bin": _bin, ".npz": _npz}
