"""One trace for every checkpoint: `torch.export`, so a module, a .pt2 and TorchScript go the same way from here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from ..errors import InputError
from ..models.reference import Reference
from ..runtime.manifest import TensorSpec

BATCH = 64  # samples at a time, where their number is free


@dataclass(frozen=True)
class Program:
    """A traced network. dynamic: per input, the axes that may vary, by name; example: one batch as traced."""

    reference: Reference
    exported: ExportedProgram
    example: dict[str, np.ndarray]
    dynamic: dict[str, dict[int, str]]
    inputs: tuple[TensorSpec, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.reference.outputs

    @property
    def fixed_batch(self) -> int | None:
        """The samples of a batch, where the trace fixed their number."""
        sizes = [spec.shape[0] for spec in self.inputs]
        return next((size for size in sizes if isinstance(size, int)), None)

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The trained module's outputs on numpy inputs, in order."""
        return run_module(self.reference.module(), inputs, self.fixed_batch or BATCH, self.fixed_batch is not None)


def run_module(module: nn.Module, inputs: Mapping[str, np.ndarray], batch: int = BATCH, fixed: bool = False) -> list[np.ndarray]:
    """Runs `module` over all samples in batches; returns one float array per output. fixed: as `in_batches` has it."""

    def outputs(part: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in part.items()}
        return [y.detach().numpy() for y in flatten_outputs(module(**tensors))]

    with torch.no_grad():
        return in_batches(outputs, inputs, batch, fixed)


def in_batches(
    outputs: Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]], inputs: Mapping[str, np.ndarray], size: int, fixed: bool
) -> list[np.ndarray]:
    """What `outputs` gives for all samples, `size` at a time. fixed: never for fewer; the last sample fills up, and what comes of that is cut off."""
    count = len(next(iter(inputs.values())))
    missing = -count % size if fixed else 0
    if missing:
        inputs = {name: np.concatenate([array, array[-1:].repeat(missing, 0)]) for name, array in inputs.items()}
    parts = [outputs({name: array[start : start + size] for name, array in inputs.items()}) for start in range(0, count, size)]
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return [array[:count] for array in joined] if missing else joined


def flatten_outputs(value: Any) -> list[torch.Tensor]:
    """Tensors of a forward's result in order: a tensor, or tuples, lists, dicts and dataclasses of them."""
    leaves, _ = torch.utils._pytree.tree_flatten(value)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def trace(reference: Reference, example: Mapping[str, np.ndarray], dynamic: Mapping[str, Iterable[int]] | None = None) -> Program:
    """Traces the reference's module on `example` (leading axis: at least two samples).

    dynamic: axes per input that may vary at run time; by default the leading one. Axes that the module fixes stay fixed
    if they were not asked for, and raise InputError if they were.
    """
    module = reference.module()
    _share_weights(module, reference.state or {})
    names = [spec.name for spec in reference.inputs]
    tensors = {name: torch.from_numpy(np.ascontiguousarray(example[name])) for name in names}
    axes = _axis_names(names, dynamic)
    try:
        exported = _export(module, tensors, axes)
    except Exception as error:  # torch.export raises many kinds; the message is what helps
        if dynamic is not None:
            raise InputError(f"{reference.name} cannot be traced with dynamic axes {_show(axes)}: {_first_line(error)}") from error
        try:
            axes = {}
            exported = _export(module, tensors, axes)
        except Exception as fixed_error:
            raise InputError(f"{reference.name} cannot be traced by torch.export: {_first_line(fixed_error)}") from fixed_error
    return Program(reference, exported, dict(example), axes, _specs(reference, example, axes))


def _share_weights(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Lets the module that is traced, which nobody changes, read the checkpoint's tensors where they are instead of copies."""
    for name, own in module.state_dict(keep_vars=True).items():
        given = state.get(name)
        if isinstance(given, torch.Tensor) and given.is_contiguous() and (given.dtype, given.shape) == (own.dtype, own.shape):
            own.data = given.detach()


def _axis_names(names: list[str], dynamic: Mapping[str, Iterable[int]] | None) -> dict[str, dict[int, str]]:
    """A name per dynamic axis: `batch` for axis 0, one shared name per other axis number, so masks follow their tokens."""
    asked = {name: [0] for name in names} if dynamic is None else dynamic
    unknown = sorted(set(asked) - set(names))
    if unknown:
        raise InputError(f"--dynamic names {', '.join(unknown)}, but the inputs are {', '.join(names)}.")
    return {name: {axis: "batch" if axis == 0 else f"axis{axis}" for axis in axes} for name, axes in asked.items()}


def _export(module: nn.Module, tensors: dict[str, torch.Tensor], axes: dict[str, dict[int, str]]) -> ExportedProgram:
    dims = {label: Dim(label, min=1) for named in axes.values() for label in named.values()}
    shapes = {name: {axis: dims[label] for axis, label in axes.get(name, {}).items()} or None for name in tensors}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.export").setLevel(logging.ERROR)
        exported = torch.export.export(module, (), kwargs=tensors, dynamic_shapes=shapes, strict=False)
    _copy_before_reshape(exported)
    return exported


def _copy_before_reshape(exported: ExportedProgram) -> None:
    """Puts a copy between a transpose and a reshape; the exporter turns it into nothing.

    torch decides in the trace whether a reshape is a view, by strides that attention's kernels give differently when the
    program is decomposed later; then it fails. A contiguous copy makes either right.
    """
    aten = torch.ops.aten
    graph = exported.graph_module.graph
    for node in list(graph.nodes):
        source: Any = node.args[0] if node.args else None
        turned = getattr(source, "target", None) in (aten.transpose.int, aten.permute.default)
        if node.target in (aten.reshape.default, aten.view.default) and turned:
            with graph.inserting_before(node):
                copy = graph.call_function(aten.clone.default, (source,), {"memory_format": torch.contiguous_format})
            copy.meta.update({key: value for key, value in source.meta.items() if key != "val"})
            copy.meta["val"] = source.meta["val"].clone(memory_format=torch.contiguous_format)
            node.replace_input_with(source, copy)
    exported.graph_module.recompile()


def _specs(reference: Reference, example: Mapping[str, np.ndarray], axes: dict[str, dict[int, str]]) -> tuple[TensorSpec, ...]:
    specs = []
    for spec in reference.inputs:
        array = example[spec.name]
        named = axes.get(spec.name, {})
        shape = tuple(named.get(axis, size) for axis, size in enumerate(array.shape))
        specs.append(TensorSpec(name=spec.name, shape=shape, dtype=str(array.dtype), unit=spec.unit, preprocessing=spec.preprocessing))
    return tuple(specs)


def _first_line(error: Exception) -> str:
    """What an exception says in one line; of torch's list of violated constraints, the first constraint."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    listed = (line.strip(" -") for line in lines[1:] if line.strip().startswith("- "))
    return next(listed, lines[0])[:300]


def _show(axes: dict[str, dict[int, str]]) -> str:
    return ", ".join(f"{name}:{','.join(map(str, named))}" for name, named in axes.items())
