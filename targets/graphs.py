"""What every target of ONNX graphs does before it writes one."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import _constant_folding as folding

from ..export.passes.linear_as_matmul import LAYER
from ..quantize.insert import PRECISION

MERGED = "edgeattn.merged"  # metadata key: the paths of other layers that a node computes too, with blanks between


def tidy() -> list[ir.passes.PassBase]:
    """The passes that follow a lowering: constants folded but for quantised weights, which must stay integers, then lifted and shared."""
    return [
        folding.FoldConstantsPass(
            shape_inference=False,
            input_size_limit=folding.DEFAULT_CONSTANT_FOLD_INPUT_SIZE_LIMIT,
            output_size_limit=folding.DEFAULT_CONSTANT_FOLD_OUTPUT_SIZE_LIMIT,
            should_fold=lambda node: None if node.op_type != "DequantizeLinear" else False,
        ),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.RemoveUnusedNodesPass(),
        common.NameFixPass(),
    ]


def layer_precisions(model: ir.Model) -> dict[str, str]:
    """Precision by the path of each linear layer, as its node carries it; a layer that was merged into an equal one has that one's."""
    return {path: node.metadata_props.get(PRECISION, "fp32") for node in model.graph for path in _layers(node)}


def absorb(kept: ir.Node, node: ir.Node) -> None:
    """Notes that `kept` computes the layers of `node` too."""
    if LAYER in node.metadata_props:
        kept.metadata_props[MERGED] = " ".join([*kept.metadata_props.get(MERGED, "").split(), *_layers(node)])


def with_merged(model: ir.Model, found: Iterable[str]) -> set[str]:
    """The layers found in an engine's graph, and those that were merged into them."""
    seen = set(found)
    return {path for node in model.graph if seen & set(_layers(node)) for path in _layers(node)}


def own_layers(model: ir.Model) -> set[str]:
    """The layers that have a node of their own: not those merged into an equal one."""
    return {node.metadata_props[LAYER] for node in model.graph if LAYER in node.metadata_props}


def _layers(node: ir.Node) -> list[str]:
    own = node.metadata_props.get(LAYER)
    return [] if own is None else [own, *node.metadata_props.get(MERGED, "").split()]


def without_metadata(model: ir.Model) -> ir.Model:
    """A copy without the compiler's notes, which a device has no use for."""
    copy = model.clone()
    common.ClearMetadataAndDocStringPass()(copy)
    return copy
