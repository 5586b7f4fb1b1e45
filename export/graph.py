"""The canonical graph: what was trained, in ONNX at the highest level it has, before any device is thought of."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import rewriter
from onnxscript.optimizer import _constant_folding as folding
from onnxscript.rewriter.rules.common import _basic_rules, _no_op

from ..errors import InputError
from .passes.convolution_layers import ConvolutionLayers
from .passes.full_attention_mask import FullAttentionMask
from .passes.linear_as_matmul import LinearAsMatMul
from .passes.name_after_modules import NameAfterModules, RememberTrace
from .passes.no_ops import DropNoOps
from .passes.rewrite import Rewrite
from .trace import Program
from .written import OPSET, translations

# `DropNoOps` is exact; merging slices compares each slice with every node of the graph, which is quadratic.
LEFT_OUT = [*_no_op.rules, _basic_rules.slice_split_rule]
RULES = [rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule not in LEFT_OUT]

logging.getLogger(folding.__name__).setLevel(logging.ERROR)  # names nodes that stay as they are: nothing a user could act on


def to_graph(program: Program) -> ir.Model:
    """The program as a canonical graph: one operator for each of LayerNormalization, Gelu and Attention, every linear layer
    as MatMul over a [K, N] initialiser that keeps its parameter's name, convolutions tagged with theirs, constants folded, nodes named
    after modules.

    Raises InputError for an operator that ONNX cannot express, naming it.
    """
    model = _export(program)
    canonicalise(model)
    _name_axes(model, program)
    return model


def canonicalise(model: ir.Model) -> None:
    """Brings an exported graph into canonical form, in place."""
    simplify = ir.passes.PassManager(
        [
            folding.FoldConstantsPass(shape_inference=True, input_size_limit=folding.DEFAULT_CONSTANT_FOLD_INPUT_SIZE_LIMIT,
                                      output_size_limit=folding.DEFAULT_CONSTANT_FOLD_OUTPUT_SIZE_LIMIT),
            Rewrite(RULES),
            DropNoOps(),
            common.RemoveUnusedNodesPass(),
        ],
        steps=3,
    )  # fmt: skip
    ir.passes.Sequential(
        common.InlinePass(),
        RememberTrace(),
        LinearAsMatMul(),
        simplify,
        ConvolutionLayers(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        FullAttentionMask(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.OutputFixPass(),
        NameAfterModules(),
        common.NameFixPass(),
    )(model)


def _export(program: Program) -> ir.Model:
    kwargs = {name: torch.from_numpy(array) for name, array in program.example.items()}
    reference = program.reference
    options: dict[str, Any] = {"output_names": list(reference.outputs)} if reference.outputs else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            options |= {"dynamo": True, "opset_version": OPSET, "optimize": False, "verbose": False}
            options["custom_translation_table"] = translations(program.exported)
            exported = torch.onnx.export(program.exported, (), kwargs=kwargs, **options)
        except torch.onnx.errors.OnnxExporterError as error:
            cause = error.__cause__ or error
            reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
            raise InputError(f"{reference.name} holds an operation that ONNX opset {OPSET} cannot express: {reason}") from error
        finally:
            logging.disable(previous)
    assert exported is not None
    return exported.model


def _name_axes(model: ir.Model, program: Program) -> None:
    """Gives the dynamic axes the names of the program: `batch` instead of s77."""
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, label in program.dynamic.get(value.name or "", {}).items():
            if value.shape is not None and isinstance(value.shape[axis], ir.SymbolicDim):
                names[str(value.shape[axis].value)] = label
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    for value in values:
        if value.shape is not None and not value.shape.is_static():
            value.shape = ir.Shape([names.get(str(dim.value), dim.value) if isinstance(dim, ir.SymbolicDim) else dim for dim in value.shape])
