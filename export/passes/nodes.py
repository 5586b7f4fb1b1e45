"""Nodes that passes add to a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir


def node_of(
    kind: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    dtype: ir.DataType | None,
    shape: Any,
    attributes: Mapping[str, Any] | None = None,
    domain: str = "",
) -> ir.Node:
    """A node of one output, which has its name."""
    return ir.node(kind, inputs, attributes, domain=domain, outputs=[ir.val(name, dtype, shape)], name=name)


def cast(value: ir.Value, to: ir.DataType, name: str) -> ir.Node:
    """A Cast of `value`; its output is called `name`."""
    return ir.node("Cast", [value], {"to": to.value}, outputs=[ir.val(name, to, value.shape)], name=f"{name}/Cast")
