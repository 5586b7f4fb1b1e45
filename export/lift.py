"""Lifts a traced program back into a module whose layers with weights are modules again.

Brevitas quantises modules, a trace holds calls: every `aten.linear` (or convolution, layer norm) whose weight is a
parameter becomes an `nn.Linear` at the parameter's place in the module tree. So layers that were never modules of their own, such as
the packed input projection of `nn.MultiheadAttention`, are quantised like all others.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

_ATEN = torch.ops.aten
_CONVOLUTIONS = {_ATEN.conv1d.default: nn.Conv1d, _ATEN.conv2d.default: nn.Conv2d, _ATEN.conv1d.padding: nn.Conv1d, _ATEN.conv2d.padding: nn.Conv2d}


def lift(program: ExportedProgram) -> fx.GraphModule:
    """A `GraphModule` that computes what the program does. Parameters are copies, so the program stays as it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = program.module()
    root = nn.Module()
    graph = fx.Graph()
    graph.set_codegen(traced.graph._codegen)
    environment: dict[fx.Node, Any] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module" and "_guards" in str(node.target):
            continue
        environment[node] = _lift_node(node, traced, root, graph, environment)
    module = fx.GraphModule(root, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    if hasattr(traced, "_in_spec"):
        module._in_spec = traced._in_spec
    return module.eval()


def layer_path(parameter: str) -> str:
    """Where a layer stands in the module tree, from its weight: `blocks.0.query.weight` → `blocks.0.query`."""
    for suffix in (".weight", "_weight"):
        if parameter.endswith(suffix):
            return parameter[: -len(suffix)]
    return parameter


def _lift_node(node: fx.Node, traced: fx.GraphModule, root: nn.Module, graph: fx.Graph, environment: dict[fx.Node, Any]) -> fx.Node:
    layer = _layer(node, traced)
    if layer is not None:
        path = layer_path(str(_weight(node).target))
        if path not in dict(root.named_modules()):
            _place(root, path, layer)
        return graph.call_module(path, (environment[node.args[0]],))
    if node.op == "get_attr":
        return _lift_attribute(node, traced, root, graph)
    return graph.node_copy(node, lambda n: environment[n])


def _lift_attribute(node: fx.Node, traced: fx.GraphModule, root: nn.Module, graph: fx.Graph) -> fx.Node:
    # Flat names: a tied weight may be both a layer's and a plain tensor, and must not shadow that layer.
    name = "tensor_" + str(node.target).replace(".", "_")
    if not hasattr(root, name):
        value = _get(traced, str(node.target))
        if isinstance(value, torch.Tensor):
            root.register_buffer(name, value.detach().clone())
        else:
            setattr(root, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return graph.get_attr(name)


def _weight(node: fx.Node) -> Any:
    """The weight argument: second of a linear layer or convolution, third of a layer norm."""
    position = 2 if node.target == _ATEN.layer_norm.default else 1
    return node.args[position] if node.op == "call_function" and len(node.args) > position else None


def _layer(node: fx.Node, traced: fx.GraphModule) -> nn.Module | None:
    """The module that a call with parameter weights stands for, or None."""
    weight = _parameter(_weight(node), traced)
    if weight is None:
        return None
    after = node.args.index(_weight(node)) + 1
    bias_node: Any = node.args[after] if after < len(node.args) else None
    bias = _parameter(bias_node, traced)
    if bias_node is not None and bias is None:
        return None
    if node.target == _ATEN.layer_norm.default and bias is not None:
        layer: nn.Module = nn.LayerNorm(tuple(node.args[1]), eps=node.args[4] if len(node.args) > 4 else 1e-5)
    elif node.target == _ATEN.linear.default and weight.dim() == 2:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    elif node.target in _CONVOLUTIONS:
        given: list[Any] = list(node.args[3:])
        defaults: list[Any] = [1, 0, 1, 1]
        stride, padding, dilation, groups = given + defaults[len(given) :]
        kind = _CONVOLUTIONS[node.target]
        layer = kind(weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]), stride, padding, dilation, groups, bias is not None)
    else:
        return None
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    layer.parameter_names = {"weight": str(_weight(node).target)}
    if bias is not None:
        layer.parameter_names["bias"] = str(bias_node.target)
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer


def _parameter(node: Any, traced: fx.GraphModule) -> torch.Tensor | None:
    if isinstance(node, fx.Node) and node.op == "get_attr":
        value = _get(traced, str(node.target))
        return value if isinstance(value, torch.Tensor) else None
    return None


def _get(module: nn.Module, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _place(root: nn.Module, path: str, layer: nn.Module) -> None:
    *parents, last = path.split(".")
    for part in parents:
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = getattr(root, part)
    for name, child in getattr(root, last, nn.Module()).named_children():
        layer.add_module(name, child)
    root.add_module(last, layer)
