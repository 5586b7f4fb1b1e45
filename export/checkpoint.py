"""A checkpoint file → `Reference`, whatever the file is."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from ..errors import InputError
from ..models.reference import Reference
from ..runtime.manifest import TensorSpec
from .archive import kind_of, read_program, read_tensors, read_torchscript, to_numpy
from .match import check_fit, find_system, load_factory
from .network import STEP, Reset
from .nir import input_shape, read_nir
from .trace import flatten_outputs


def read(
    path: str | Path,
    model: str | None = None,
    trust: bool = False,
    example: Mapping[str, np.ndarray] | None = None,
    task: str | None = None,
    registry: Callable[[], Mapping[str, Reference]] | None = None,
    timestep: float = STEP,
    reset: Reset | None = None,
) -> Reference:
    """Reads a state_dict (.pt, .safetensors), a torch.export program (.pt2), TorchScript, a NIR graph, or with `trust` a pickled module.

    model: a zoo name or `package.module:factory` for a bare state_dict; without it the zoo model that fits is found.
    example: inputs by name (two samples or more), needed where neither the zoo nor the file brings any.
    timestep, reset: of a NIR graph, which leaves them open: seconds of one step of the framework that wrote it, and how its neurons reset.
    Raises InputError, or UntrustedError for a file that would run code; nothing of such a file is run.
    """
    file = Path(path)
    kind = kind_of(file)
    if kind == "program":
        return _from_program(file, trust, task)
    if kind == "torchscript":
        return _from_torchscript(file, example, task)
    if kind == "nir":
        return _from_nir(file, timestep, reset)
    state = read_tensors(file, kind, trust)
    if isinstance(state, nn.Module):
        module = state
        return _described(file.stem, lambda: module, example, task, "a pickled module, trusted by the user")
    known = (registry or _zoo)()
    if model is None or model in known:
        system = known[model] if model is not None else find_system(state, known)
        check_fit(state, system.build, system.name)
        return system.with_state(state)
    build = load_factory(model)
    check_fit(state, build, model)
    return _described(file.stem, build, example, task, f"module from {model}").with_state(state)


def _zoo() -> Mapping[str, Reference]:
    from ..models.registry import systems

    return systems()


def _from_program(file: Path, trust: bool, task: str | None) -> Reference:
    program = read_program(file, trust)
    args, kwargs = program.example_inputs or ((), {})
    names = list(inspect.signature(program.module().forward).parameters) if args else []
    if not args and not kwargs:
        raise InputError(f"{file} carries no example inputs: export it again with torch.export.save(torch.export.export(module, args)).")
    example = {**{name: to_numpy(x) for name, x in zip(names, args, strict=False)}, **{name: to_numpy(x) for name, x in kwargs.items()}}
    build = (lambda: _Named(_plain(program.module()), names, list(kwargs))) if args else (lambda: _plain(program.module()))
    return replace(_described(file.stem, build, example, task, "a torch.export program"), batch=_fixed_batch(program))


def _fixed_batch(program: ExportedProgram) -> int | None:
    """The samples of a call, where the program was exported without saying that their number may vary."""
    inputs = set(program.graph_signature.user_inputs)
    shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in inputs]
    return next((shape[0] for shape in shapes if shape and isinstance(shape[0], int)), None)


def _from_torchscript(file: Path, example: Mapping[str, np.ndarray] | None, task: str | None) -> Reference:
    from torch._export.converter import TS2EPConverter

    script = read_torchscript(file)
    if example is None:
        raise InputError(f"{file} is TorchScript, which does not say its input shapes: give --calib data.npz or --input name=2x128x8.")
    names = [argument.name for argument in script.forward.schema.arguments[1:]]
    missing = [name for name in names[: len(example)] if name not in example]
    if missing:
        raise InputError(f"{file} takes inputs {', '.join(names)}; the data have {', '.join(example)}.")
    tensors = tuple(torch.from_numpy(example[name]) for name in names if name in example)

    def build() -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                converted = TS2EPConverter(script, tensors).convert()
            except Exception as error:  # the converter raises whatever it meets
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise InputError(f"{file} cannot be converted from TorchScript ({reason}): export it with torch.export instead.") from None
            return _Named(_plain(converted.module()), [name for name in names if name in example])

    return _described(file.stem, build, example, task, "TorchScript")


def _from_nir(file: Path, timestep: float, reset: Reset | None) -> Reference:
    module = read_nir(file, timestep, reset)
    spec = TensorSpec(
        name="events", shape=("batch", "steps", *input_shape(module.graph)), dtype="uint8", unit="spikes", preprocessing="frames of 0 or 1"
    )
    return Reference(
        name=file.stem, build=lambda: module, inputs=(spec,), outputs=("counts",), source=f"a NIR graph, {timestep * 1e3:g} ms a step",
        task="classification", targets=("spinnaker",),
    )  # fmt: skip


class _Named(nn.Module):
    """A program that takes its inputs by position, to be called by name.

    positional, keyword: the names of its inputs. It stands in the program's own place in the module tree, so that layers keep their paths.
    """

    def __init__(self, inner: nn.Module, positional: list[str], keyword: list[str] | None = None) -> None:
        super().__init__()
        self.__dict__["_inner"] = inner  # no submodule: the program's own parts are
        self._modules, self._parameters, self._buffers = inner._modules, inner._parameters, inner._buffers
        self._positional, self._keyword = positional, keyword or []
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in (*self._positional, *self._keyword)]
        self.forward.__func__.__signature__ = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *parameters])  # type: ignore[attr-defined]

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> Any:
        named = {**dict(zip(self._positional + self._keyword, args, strict=False)), **kwargs}
        return self._inner(*[named[name] for name in self._positional], **{name: named[name] for name in self._keyword})


def _plain(module: nn.Module) -> nn.Module:
    """A program's module whose eval() does nothing: the trace has no other mode, and torch raises instead of saying so."""
    module.train = lambda mode=True: module  # type: ignore[method-assign,assignment]
    module.eval = lambda: module  # type: ignore[method-assign]
    return module


def _described(name: str, build: Callable[[], nn.Module], example: Mapping[str, np.ndarray] | None, task: str | None, source: str) -> Reference:
    """A reference for a network that is not of the zoo: its contract is read from one run on the example."""
    if example is None:
        raise InputError(
            f"{name}: the network's inputs are not known: give --calib data.npz or --input name=2x128x8 (several times for several inputs)."
        )
    tensors = {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in example.items()}
    module = build().eval()
    try:
        with torch.no_grad():
            result = module(**tensors)
    except Exception as error:  # the user's code may raise anything
        shapes = ", ".join(f"{key} {tuple(array.shape)} {array.dtype}" for key, array in example.items())
        raise InputError(f"{name} does not run on the inputs given ({shapes}): {type(error).__name__}: {error}") from None
    inputs = tuple(TensorSpec(name=key, shape=array.shape, dtype=str(array.dtype)) for key, array in example.items())
    return Reference(
        name=name, build=build, inputs=inputs, outputs=_output_names(result), source=source, task=task or "classification", example=example
    )


def _output_names(result: Any) -> tuple[str, ...]:
    if isinstance(result, Mapping):
        return tuple(str(key) for key, value in result.items() if isinstance(value, torch.Tensor))
    count = len(flatten_outputs(result))
    return ("output",) if count == 1 else tuple(f"output_{index}" for index in range(count))
