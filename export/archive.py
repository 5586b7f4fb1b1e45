"""What a checkpoint file is, found from its bytes, and its tensors read without running anything in it."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import InputError, UntrustedError
from ..models import recurrence, selective_scan  # noqa: F401  programs may hold their operators, which torch knows once these are imported

Kind = Literal["pickle", "safetensors", "program", "torchscript", "nir"]
NESTED = ("model_state_dict", "state_dict", "model", "net", "module", "ema", "params")  # where trainers put the weights
PREFIXES = ("module.", "_orig_mod.", "model.")  # what DataParallel, torch.compile and trainers put before every key
LARGEST_RATIO = 200  # unpacked over packed size; weights do not compress like that, zip bombs do


def kind_of(path: Path) -> Kind:
    """The file's kind; raises InputError for a missing, empty or foreign file, naming what it looks like."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the checkpoint file inside it.")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read: {error.strerror}.") from None
    if not head:
        raise InputError(f"checkpoint {path} is empty: copy it again.")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` in its repository.")
    if head.startswith(b"PK"):
        return _zip_kind(path)
    if head.startswith(b"\x89HDF"):
        return "nir"
    if path.suffix == ".safetensors" or (len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000):
        return "safetensors"
    if head[0] == 0x80:
        return "pickle"
    raise InputError(f"{path} is no checkpoint (it starts with {head[:8]!r}): give a .pt, .pth, .safetensors, .pt2, TorchScript or .nir file.")


def read_tensors(path: Path, kind: Kind, trust: bool = False) -> Any:
    """The tensors of a state_dict file, unnested and without prefixes; with `trust`, whatever object the pickle holds.

    Raises UntrustedError where the pickle needs code, InputError for damaged files and for NaN or infinite weights, by key.
    """
    loaded = _safetensors(path) if kind == "safetensors" else _pickle(path, trust)
    if isinstance(loaded, torch.nn.Module):
        return loaded
    state = _unnest(loaded, path)
    for key, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all() and not _is_mask(tensor):
            bad = int((~torch.isfinite(tensor)).sum())
            raise InputError(f"{path}: {key} holds {bad} NaN or infinite values of {tensor.numel()}: take an earlier checkpoint.")
    return state


def _is_mask(tensor: torch.Tensor) -> bool:
    """Nothing but 0 and -inf: a mask that was saved with the weights."""
    return bool(((tensor == 0) | torch.isneginf(tensor)).all())


def read_program(path: Path, trust: bool = False) -> torch.export.ExportedProgram:
    """A `torch.export` program. Its archive may carry pickled objects; those are loaded only with `trust`."""
    with zipfile.ZipFile(path) as archive:
        objects = [name for name in archive.namelist() if "custom_obj" in name or "opaque_obj" in name]
    if objects and not trust:
        raise UntrustedError(f"{path} carries pickled objects ({objects[0]}), which run code when read: use --trust only if you made it.")
    try:
        with _only_weights(not trust), _quiet():
            return torch.export.load(path)
    except pickle.UnpicklingError as error:
        raise UntrustedError(f"{path} carries a pickle that would run code ({_wanted(error)}): use --trust only if you made it.") from None
    except Exception as error:  # torch.export.load raises whatever its parts raise
        raise InputError(f"{path} cannot be read as a torch.export program: {_first_line(error)}") from None


def read_torchscript(path: Path) -> torch.jit.ScriptModule:
    """A TorchScript archive; its code runs in TorchScript's own interpreter, never in Python."""
    try:
        with _quiet():
            return torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as TorchScript: {_first_line(error)}") from None


def _zip_kind(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except zipfile.BadZipFile:
        raise InputError(f"checkpoint {path} is truncated or damaged (its zip directory is unreadable): copy it again.") from None
    packed = sum(info.compress_size for info in infos) or 1
    if sum(info.file_size for info in infos) > LARGEST_RATIO * packed + 1_000_000:
        raise InputError(f"{path} unpacks to more than {LARGEST_RATIO} times its size, as no checkpoint does: it was not read.")
    names = {"/".join(info.filename.split("/")[1:]) for info in infos} | {info.filename for info in infos}
    if any(name.startswith("code/") for name in names) and "constants.pkl" in names:
        return "torchscript"
    if any(name.startswith("models/") for name in names) or "serialized_exported_program.json" in names:
        return "program"
    if "data.pkl" in names:
        return "pickle"
    raise InputError(f"{path} is a zip file, but no checkpoint: it holds {', '.join(sorted(names)[:3])} ...")


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({_first_line(error)}): copy it again.") from None


def _pickle(path: Path, trust: bool) -> Any:
    try:
        with _quiet():
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust:
            raise InputError(f"{path} cannot be unpickled: {_first_line(error)}") from None
        raise UntrustedError(
            f"{path} holds Python objects, not only tensors ({_wanted(error)}), so reading it would run code: save "
            "model.state_dict() instead, or use --trust if you made this file yourself."
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise InputError(f"checkpoint {path} is truncated or damaged ({_first_line(error)}): copy it again.") from None
    except (ImportError, AttributeError) as error:
        raise InputError(f"{path} needs code that is not importable here ({error}): start from the folder that has it.") from None


def _unnest(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    state = loaded
    while isinstance(state, Mapping) and not _is_state(state):
        inner = next((state[key] for key in NESTED if isinstance(state.get(key), Mapping)), None)
        if inner is None:
            break
        state = inner
    if not isinstance(state, Mapping) or not _is_state(state):
        keys = ", ".join(map(str, list(state)[:5])) if isinstance(state, Mapping) else type(loaded).__name__
        raise InputError(f"{path} holds no weights edgeattn can find ({keys}): save model.state_dict().")
    tensors = {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}
    for prefix in PREFIXES:
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _is_state(value: Mapping[Any, Any]) -> bool:
    """A state_dict: at least one tensor, and nothing nested."""
    return any(isinstance(v, torch.Tensor) for v in value.values()) and not any(isinstance(value.get(k), Mapping) for k in NESTED)


def _wanted(error: Exception) -> str:
    """The global that the pickle asked for, from torch's message."""
    text = str(error)
    for marker in ("Unsupported global: GLOBAL ", "GLOBAL "):
        if marker in text:
            return "it asks for " + text.split(marker, 1)[1].split()[0].strip(".,'")
    return "it is not a plain weights file"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


@contextmanager
def _only_weights(on: bool) -> Iterator[None]:
    """torch.export.load unpickles some weights without asking; this variable of torch's makes every torch.load safe."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    if on:
        os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as a C-ordered array of the same dtype."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
