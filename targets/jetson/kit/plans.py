"""Engines kept on the board, each with what it was built for: another TensorRT, GPU or release refuses it in one sentence."""

import hashlib
import json
import os
import tempfile
from typing import Any, Dict, Optional

from . import board
from .bundle import Bundle
from .cuda import Cuda
from .engine import Say, build
from .errors import KitError

LARGEST_WORKSPACE = 2 * 1024**3
SHARE = 0.5  # of the memory that is available: the GPU shares it with everything else on the board


def default_folder() -> str:
    """Outside the bundle, which stays as it was hashed."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "edgeattn")


def key(bundle: Bundle, trt: Any, cuda: Cuda) -> Dict[str, Optional[str]]:
    """What a plan depends on."""
    digest = hashlib.sha256(bundle.onnx + bundle.files["device/build.json"]).hexdigest()
    return {"model": digest[:16], "tensorrt": trt.__version__, "compute_capability": cuda.capability(), "l4t": board.l4t()}


def workspace() -> int:
    """Bytes that building may use: half of what is free now, at most 2 GB."""
    return int(min(LARGEST_WORKSPACE, SHARE * board.memory()["available"]))


def obtain(bundle: Bundle, trt: Any, cuda: Cuda, folder: str, say: Say, outputs: Any = ()) -> bytes:
    """The engine for this bundle on this board: the kept one, else a new one that is then kept."""
    wanted = key(bundle, trt, cuda)
    if outputs:
        wanted["outputs"] = hashlib.sha256("\n".join(outputs).encode()).hexdigest()[:16]
    path = os.path.join(folder, "{}.plan".format("-".join(str(value) for value in wanted.values())))
    if os.path.isfile(path):
        return load(path, wanted)
    say("building the engine with TensorRT {} (minutes on a small board)".format(trt.__version__))
    timing = os.path.join(folder, "timing-{}-{}.cache".format(wanted["tensorrt"], wanted["compute_capability"]))
    plan, cache = build(trt, bundle.onnx, bundle.build, workspace(), _content(timing), outputs)
    store(path, plan, wanted)
    if cache:
        write(timing, cache)
    return plan


def load(path: str, wanted: Dict[str, Optional[str]]) -> bytes:
    """A kept plan's bytes; raises KitError where it was built for something else, or not by this kit."""
    try:
        with open(path + ".json") as file:
            built = json.load(file)
        with open(path, "rb") as file:
            plan = file.read()
    except (OSError, ValueError):
        raise KitError("{} was not built by this kit (its .json is missing): run `build` on this board.".format(path))
    for name, value in wanted.items():
        if built.get(name) != value:
            raise KitError("{} was built for {} {}, this board has {}: run `build` here.".format(path, name, built.get(name), value))
    if hashlib.sha256(plan).hexdigest() != built.get("sha256"):
        raise KitError("{} was changed or cut short: delete it and run `build`.".format(path))
    return plan


def store(path: str, plan: bytes, built: Dict[str, Optional[str]]) -> None:
    """Keeps a plan, whole or not at all."""
    body = dict(built, sha256=hashlib.sha256(plan).hexdigest())
    write(path + ".json", json.dumps(body, indent=2, sort_keys=True).encode())
    write(path, plan)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def write(path: str, data: bytes) -> None:
    """Writes a file, whole or not at all; raises KitError where that fails."""
    folder = os.path.dirname(path)
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".partial")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        raise KitError("{} cannot be written ({}): free some space, or choose another --cache.".format(path, error.strerror))
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
