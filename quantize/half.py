"""float16 with float32 islands: which nodes run in which, read from the ranges that calibration data show.

A node stays in float32 where float16 would change more than the last bits: sums and what leads into or out of them, values near or beyond
65,504, constants below the smallest normal number; and where the last bit decides: comparisons and what leads to them alone, rounding to whole
numbers and sorting of what element-wise arithmetic makes of the inputs (a coordinate that moves falls into another cell of a grid).
See Micikevicius et al., "Mixed Precision Training", ICLR 2018, sections 3.1 and 3.3.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from ..export.host import half_in_float32
from ..export.passes.linear_as_matmul import LAYER
from ..export.passes.nodes import cast
from ..models.reference import Samples
from .insert import PRECISION
from .ranges import value_ranges
from .recipe import Recipe

FLOAT = "edgeattn.float"  # metadata key of a node: fp16, or fp32 with the reason behind a colon; of a graph: bf16
LARGEST = 65504.0
SMALLEST = 2.0**-14  # the smallest normal number
HEADROOM = 2.0  # data the board meets may reach so much farther than the calibration data
REDUCTIONS = ("Mean", "Sum", "SumSquare", "L1", "L2", "LogSum", "LogSumExp", "Prod")
SUMS = frozenset(("Softmax", "LogSoftmax", "CumSum", *(f"Reduce{kind}" for kind in REDUCTIONS)))
BEFORE = frozenset(("Add", "Sub", "Mul", "Div", "Pow", "Exp", "Abs", "Where"))
AFTER = frozenset(("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Log", "Neg"))
MOVES = frozenset(("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Expand", "Concat", "Split", "Flatten"))
COMPARISONS = frozenset(("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"))
STEPS = frozenset(("Floor", "Ceil", "Round", "TopK", "ArgMax", "ArgMin"))
TO_STEPS = BEFORE | AFTER | MOVES | STEPS | frozenset(("Clip", "Min", "Max", "Mod", "Sin", "Cos", "Gather", "GatherElements", "GatherND"))
MASK = 1e29  # no activation is so large: what is there masks a softmax
# Reasons that are the same in every network; others name a value and its range.
WELL_KNOWN = (
    "a sum",
    "before a sum",
    "after a sum",
    "between islands",
    "weights of an island",
    "a mask",
    "a small constant",
    "a type of its own",
    "a comparison",
    "before a comparison",
    "a step of the inputs",
)
QUANTISED = ("QuantizeLinear", "DequantizeLinear")
TYPED = ("Cast", "ConstantOfShape", "EyeLike", "Range")  # their type stands in an attribute


def place_floats(model: ir.Model, recipe: Recipe, calibration: Samples) -> None:
    """Marks every node that takes or gives floats as fp16 or fp32, in place; the reason stands beside fp32. bf16 marks the graph: its engine chooses.

    calibration: the first samples that fit the graph's inputs show the ranges. A layer that the recipe wants in fp32 stays there.
    """
    if recipe.floats == "bf16":
        model.metadata_props[FLOAT] = "bf16"
        for node in model.graph:
            if LAYER in node.metadata_props:
                node.metadata_props.setdefault(PRECISION, "bf16")
    if recipe.floats != "fp16":
        return
    ranges = {name: float(np.max(np.abs(bounds))) for name, bounds in value_ranges(model, calibration).items()}
    islands: dict[ir.Node, str] = {}
    for node in model.graph:
        reason = _reason(node, recipe, ranges)
        if reason:
            islands[node] = reason
    for node in _exact_steps(model):
        islands.setdefault(node, "a step of the inputs")
    while _spread(model, islands):
        pass
    for node in model.graph:
        if not _floats(node):
            continue
        node.metadata_props[FLOAT] = f"fp32: {islands[node]}" if node in islands else "fp16"
        if LAYER in node.metadata_props:
            node.metadata_props.setdefault(PRECISION, "fp32" if node in islands else "fp16")


def islands_of(model: ir.Model) -> dict[str, str]:
    """Node name to reason for every node kept in float32 beside float16 ones; empty for a graph in one float type."""
    marks = {str(node.name): node.metadata_props.get(FLOAT, "") for node in model.graph}
    return {name: mark.partition(": ")[2] for name, mark in marks.items() if mark.startswith("fp32")} if uses_half(model) else {}


def uses_half(model: ir.Model) -> bool:
    """Whether `place_floats` marked a node as fp16."""
    return any(node.metadata_props.get(FLOAT) == "fp16" for node in model.graph)


def floats_of(model: ir.Model) -> str:
    """What a marked graph runs in where it is not quantised."""
    return "fp16" if uses_half(model) else model.metadata_props.get(FLOAT, "fp32")


def on_host(model: ir.Model) -> ir.Model:
    """What ONNX Runtime runs here to show what the marked graph computes; the graph itself where it has no float16."""
    return half_in_float32(strongly_typed(model)) if uses_half(model) else model


def _floats(node: ir.Node) -> bool:
    return any(value is not None and value.dtype == ir.DataType.FLOAT for value in (*node.inputs, *node.outputs))


def _reason(node: ir.Node, recipe: Recipe, ranges: dict[str, float]) -> str:
    """Why this node cannot run in float16, seen alone; empty where it can."""
    if node.op_type in SUMS:
        return "a sum"
    if node.op_type in COMPARISONS:
        return "a comparison"
    if node.op_type in TYPED:
        return "a type of its own"
    layer = node.metadata_props.get(LAYER)
    if layer is not None and recipe.precision(layer) == "fp32":
        return "the recipe"
    for value in (*node.inputs, *node.outputs):
        if value is None or value.dtype != ir.DataType.FLOAT:
            continue
        largest = float(np.abs(value.const_value.numpy()).max(initial=0.0)) if value.const_value is not None else ranges.get(str(value.name), 0.0)
        if MASK < largest < np.inf:
            return "a mask"
        if not largest <= LARGEST / HEADROOM:
            return f"{value.name} reaches {largest:.4g}"
        if value.const_value is not None and node.op_type not in QUANTISED and 0 < largest < SMALLEST:
            return "a small constant"
    return ""


def _exact_steps(model: ir.Model) -> set[ir.Node]:
    """Steps that element-wise arithmetic and moves alone lead to from the graph's inputs, and the nodes on the way."""
    exact: set[ir.Node] = set()
    for node in model.graph:
        floats = [value for value in node.inputs if value is not None and value.dtype == ir.DataType.FLOAT and value.const_value is None]
        known = all(value.is_graph_input() or value.producer() in exact for value in floats)
        if known and _floats(node) and node.op_type in TO_STEPS:
            exact.add(node)
    found = {node for node in exact if node.op_type in STEPS}
    for node in reversed(list(model.graph)):
        if node in exact and any(use.node in found for output in node.outputs for use in output.uses()):
            found.add(node)
    return found


def _spread(model: ir.Model, islands: dict[ir.Node, str]) -> bool:
    """Lets islands grow by what stands around a sum, by moves between islands, and by the weights of a quantised layer in one."""
    before = len(islands)
    for node in model.graph:
        if node in islands or not _floats(node):
            continue
        users = [use.node for output in node.outputs for use in output.uses()]
        sources = [value.producer() for value in node.inputs if value is not None and value.dtype == ir.DataType.FLOAT and value.const_value is None]
        leads = bool(users) and all(user in islands for user in users) and not any(output.is_graph_output() for output in node.outputs)
        follows = bool(sources) and all(source is not None and source in islands for source in sources)
        if node.op_type in BEFORE and leads and all(islands[user] in ("a sum", "before a sum") for user in users):
            islands[node] = "before a sum"
        elif (
            node.op_type in BEFORE | MOVES | {"Gather"} and leads and all(islands[user] in ("a comparison", "before a comparison") for user in users)
        ):
            islands[node] = "before a comparison"
        elif node.op_type in AFTER and follows:
            islands[node] = "after a sum"
        elif node.op_type in MOVES and leads and follows:
            islands[node] = "between islands"
        elif node.op_type == "DequantizeLinear" and not sources and any(user in islands for user in users):
            islands[node] = "weights of an island"
    return len(islands) > before


def strongly_typed(model: ir.Model) -> ir.Model:
    """A copy whose tensors have the float types that the nodes were marked with, Casts between them; inputs and outputs stay float32.

    Scales of quantised tensors become float16 too, never below its smallest number, so that no scale is 0.
    """
    copy = model.clone()
    graph = copy.graph
    made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for node in list(graph):
        wanted = ir.DataType.FLOAT16 if node.metadata_props.get(FLOAT) == "fp16" else ir.DataType.FLOAT
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16) and value.dtype != wanted:
                node.replace_input_with(index, _as_type(graph, node, value, wanted, made))
        if wanted == ir.DataType.FLOAT16:
            for output in node.outputs:
                output.dtype = ir.DataType.FLOAT16 if output.dtype == ir.DataType.FLOAT else output.dtype
    for index, output in enumerate(graph.outputs):
        if output.dtype == ir.DataType.FLOAT16:
            name, output.name = output.name, f"{output.name}.fp16"
            node = cast(output, ir.DataType.FLOAT, str(name))
            graph.append(node)
            graph.outputs[index] = node.outputs[0]
    common.RemoveUnusedNodesPass()(copy)
    return copy


def _as_type(graph: ir.Graph, user: ir.Node, value: ir.Value, wanted: ir.DataType, made: dict[tuple[ir.Value, ir.DataType], ir.Value]) -> ir.Value:
    """`value` in another float type: a constant converted, anything else behind a Cast that all its users share."""
    if (value, wanted) in made:
        return made[value, wanted]
    name = f"{value.name}.{'fp16' if wanted == ir.DataType.FLOAT16 else 'fp32'}"
    if value.const_value is not None:
        array = value.const_value.numpy()
        half = array.astype(np.float16)
        if user.op_type in QUANTISED:
            half = np.maximum(half, np.float16(2.0**-24))
        new = ir.val(name, const_value=ir.tensor(half, name=name))
        graph.initializers.add(new)
    else:
        node = cast(value, wanted, name)
        new = node.outputs[0]
        source = value.producer()
        if source is None:
            graph.insert_before(graph[0], node)
        else:
            graph.insert_after(source, node)
    made[value, wanted] = new
    return new
