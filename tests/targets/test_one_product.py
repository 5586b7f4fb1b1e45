import numpy as np
import onnx_ir as ir
import pytest

from edgeattn.export.host import host_session
from edgeattn.export.passes.constants import constant
from edgeattn.export.passes.linear_as_matmul import LAYER
from edgeattn.targets.cpu.passes.one_product import OneProduct
from edgeattn.targets.graphs import layer_precisions

FLOAT, MICROSOFT = ir.DataType.FLOAT, "com.microsoft"


def typed(node, shape, kind=FLOAT):
    node.outputs[0].shape, node.outputs[0].dtype = ir.Shape(shape), kind
    return node


def projections(kernel, heads, tokens=6, size=4, signs=(np.int8, np.int8, np.int8), flat=False):
    """x (batch, tokens, 8) through one layer for each of `heads`, reshaped to heads unless `flat`."""
    random = np.random.default_rng(0)
    x = ir.Value(name="x", shape=ir.Shape(["batch", tokens, 8]), type=ir.TensorType(FLOAT))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 21, MICROSOFT: 1}, name="projections")
    scale, zero = constant(graph, "scale", np.array(0.02, np.float32)), constant(graph, "zero", np.array(120, np.uint8))
    quantise = typed(ir.node("QuantizeLinear", [x, scale, zero]), ["batch", tokens, 8], ir.DataType.UINT8)
    graph.append(quantise)
    for name, count, sign in zip("qkv", heads, signs, strict=True):
        width = count * size
        integers = random.integers(0, 60, (8, width)).astype(sign)
        weight, weight_zero = constant(graph, f"{name}.w", integers), constant(graph, f"{name}.z", np.zeros(width, sign))
        scales = constant(graph, f"{name}.s", random.random(width, np.float32))
        bias = constant(graph, f"{name}.b", random.random(width, np.float32))
        static = [quantise.outputs[0], weight, scale, scales, zero, weight_zero, bias]
        inputs = static if kernel == "MatMulIntegerToFloat" else [x, weight, scales, weight_zero, bias]
        layer = typed(ir.node(kernel, inputs, domain=MICROSOFT, name=f"{name}/{kernel}"), ["batch", tokens, width])
        layer.metadata_props[LAYER] = name
        last = typed(ir.node("Relu", [layer.outputs[0]]), ["batch", tokens, width]) if flat else None
        if last is None:
            target = constant(graph, f"{name}.heads", np.array([0, 0, count, size], np.int64))
            last = typed(ir.node("Reshape", [layer.outputs[0], target]), ["batch", tokens, count, size])
        turned = typed(ir.node("Abs", [last.outputs[0]]), list(last.outputs[0].shape))
        turned.outputs[0].name = name
        graph.extend([layer, last, turned])
        graph.outputs.append(turned.outputs[0])
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize("kernel", ["MatMulIntegerToFloat", "DynamicQuantizeMatMul"])
def test_queries_keys_and_values_are_one_product_of_the_same_bits(kernel):
    model = projections(kernel, heads=(2, 1, 3))
    x = np.random.default_rng(1).standard_normal((3, 6, 8), np.float32)
    before = host_session(model).run(None, {"x": x})
    assert OneProduct()(model).modified
    assert sum(node.op_type == kernel for node in model.graph) == 1
    assert layer_precisions(model).keys() == {"q", "k", "v"}
    for part, wanted in zip(host_session(model).run(None, {"x": x}), before, strict=True):
        np.testing.assert_array_equal(part, wanted)


@pytest.mark.parametrize(
    "options", [{"flat": True}, {"tokens": 400}, {"tokens": "tokens"}, {"signs": (np.int8, np.uint8, np.int8), "heads": (1, 1, 1)}],
    ids=["not reshaped", "large", "of unknown length", "signs"],
)  # fmt: skip
def test_other_products_stay(options):
    model = projections("DynamicQuantizeMatMul", **{"heads": (2, 2, 2), **options})
    OneProduct()(model)
    left = sum(node.op_type == "DynamicQuantizeMatMul" for node in model.graph)
    assert left == (2 if "signs" in options else 3)  # the two of one sign are merged
