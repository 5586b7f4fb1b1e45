"""Which signs an instruction set multiplies fast and exactly, and integers brought to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant

SAFE = 63  # two products of this and 255 fit into 16 bits


def saturates(isa: tuple[str, ...]) -> bool:
    """Whether the CPU multiplies u8 x s8 by x86's vpmaddubsw, which adds two products in 16 bits: 255 * 127 * 2 does not fit."""
    return not _is_arm(isa) and not any("vnni" in flag or "amx_int8" in flag for flag in isa)


def _is_arm(isa: tuple[str, ...]) -> bool:
    return any(flag in isa for flag in ("asimd", "asimddp", "neon", "i8mm"))


@dataclass(frozen=True)
class Signs:
    """VNNI multiplies u8 x s8; AVX2 alone would saturate that in 16 bits, so weights of 8 bits become u8 too (zero point 128); ARM takes s8 x s8."""

    input: bool
    weight: bool

    @classmethod
    def of(cls, isa: tuple[str, ...]) -> Signs:
        """For a CPU with these features."""
        return cls(_is_arm(isa), not saturates(isa))

    def set_input(self, graph: ir.Graph, node: ir.Node, index: int = 0) -> ir.Node:
        """The QuantizeLinear behind a node's Q/DQ input, brought to the sign: u8 with zero point z and s8 with z - 128 hold the same numbers."""
        dequantise = producer(node.inputs[index], "DequantizeLinear")
        quantise = producer(dequantise.inputs[0], "QuantizeLinear")
        zero = quantise.inputs[2]
        assert zero is not None and zero.const_value is not None
        array = zero.const_value.numpy()
        if (array.dtype == np.int8) != self.input:
            shift, kind = (-128, np.int8) if self.input else (128, np.uint8)
            new = constant(graph, f"{zero.name}.{np.dtype(kind).name}", np.array(int(array) + shift, kind))
            quantise.replace_input_with(2, new)
            dequantise.replace_input_with(2, new)
            quantise.outputs[0].type = ir.TensorType(new.dtype)  # a new type: a clone shares the old one
        return quantise

    def weights(self, graph: ir.Graph, node: ir.Node, zeros: int | None) -> tuple[ir.Value, ir.Value, ir.Value]:
        """(integers, scale, zero point) of a node's Q/DQ weight; `zeros` of them, or a scalar for None."""
        dequantise = producer(node.inputs[1], "DequantizeLinear")
        weight, scale = dequantise.inputs[0], dequantise.inputs[1]
        assert weight is not None and scale is not None and weight.const_value is not None
        if self.weight or np.abs(weight.const_value.numpy().astype(np.int16)).max() <= SAFE:
            zero = np.zeros((), np.int8)
        else:
            shifted = (weight.const_value.numpy().astype(np.int16) + 128).astype(np.uint8)
            zero, weight = np.full((), 128, np.uint8), constant(graph, f"{weight.name}.uint8", shifted)
        if zeros is None:
            return weight, scale, constant(graph, f"{weight.name}.zero_point.scalar", zero)
        return weight, scale, constant(graph, f"{weight.name}.zero_point", np.repeat(zero, zeros))


def producer(value: ir.Value | None, kind: str) -> ir.Node:
    """The node of this kind that makes the value."""
    node = value.producer() if value is not None else None
    assert node is not None and node.op_type == kind, f"expected {kind}"
    return node
