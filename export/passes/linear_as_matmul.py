"""One form for every linear layer."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..lift import layer_path

LAYER = "edgeattn.layer"  # metadata key: the layer's path in the module tree


class LinearAsMatMul(ir.passes.InPlacePass):
    """x @ transpose(W[N,K]) + b   becomes   MatMul(x, W[K,N]) + b, tagged with the layer's path.

    1. MatMul with a transposed initialiser, with or without a bias Add behind it.
    2. Gemm(transB=1) with an initialiser as weight: MatMul, then Add if there is a bias.
    Left alone: weights that are computed, and Gemm that scales (alpha, beta).
    The transposed initialiser keeps the parameter's name; a weight that two layers share is transposed once.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        transposed: dict[str, ir.Value] = {}
        for node in list(model.graph):
            if node.op_type == "MatMul" and node.domain == "":
                modified |= self._matmul(model.graph, node, transposed)
            elif node.op_type == "Gemm" and node.domain == "":
                modified |= self._gemm(model.graph, node, transposed)
        return ir.passes.PassResult(model, modified)

    def _matmul(self, graph: ir.Graph, node: ir.Node, transposed: dict[str, ir.Value]) -> bool:
        turn = node.inputs[1].producer() if node.inputs[1] is not None else None
        if turn is None or turn.op_type != "Transpose" or not _is_weight(turn.inputs[0]):
            return False
        weight = turn.inputs[0]
        node.metadata_props[LAYER] = _layer_of(weight)
        node.replace_input_with(1, _transposed(graph, weight, transposed))
        return True

    def _gemm(self, graph: ir.Graph, node: ir.Node, transposed: dict[str, ir.Value]) -> bool:
        get = node.attributes
        plain = all(get[key].as_float() == 1.0 for key in ("alpha", "beta") if key in get)
        if not plain or not _is_weight(node.inputs[1]) or ("transA" in get and get["transA"].as_int()):
            return False
        weight = node.inputs[1]
        turned = "transB" in get and get["transB"].as_int() == 1
        layer = _layer_of(weight)
        product = ir.node("MatMul", [node.inputs[0], _transposed(graph, weight, transposed) if turned else weight])
        product.metadata_props.update(node.metadata_props)
        product.metadata_props[LAYER] = layer
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        last = product if bias is None else ir.node("Add", [product.outputs[0], bias])
        last.metadata_props.update(node.metadata_props)
        old, new = node.outputs[0], last.outputs[0]
        new.metadata_props.update(old.metadata_props)
        nodes = [product] if last is product else [product, last]
        product.outputs[0].dtype = old.dtype
        ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, [old], [new])
        return True


BY_ROWS = ".by_rows"  # what the untransposed weight is called until it is dropped as unused


def _layer_of(weight: ir.Value) -> str:
    return layer_path((weight.name or "").removesuffix(BY_ROWS))


def _is_weight(value: ir.Value | None) -> bool:
    return value is not None and value.is_initializer() and value.const_value is not None and len(value.const_value.shape) == 2


def _transposed(graph: ir.Graph, weight: ir.Value, done: dict[str, ir.Value]) -> ir.Value:
    name = weight.name
    assert name is not None
    if name in done:
        return done[name]
    assert weight.const_value is not None
    shared = len([use for use in weight.uses() if use.node.op_type not in ("Transpose", "Gemm")]) > 0
    new_name = f"{name}.transposed" if shared else name
    array = np.ascontiguousarray(weight.const_value.numpy().T)
    value = ir.val(new_name, ir.DataType.FLOAT, array.shape, const_value=ir.tensor(array, name=new_name))
    if not shared:
        weight.name = name + BY_ROWS
    graph.initializers.add(value)
    done[name] = done[name + BY_ROWS] = value
    return value
