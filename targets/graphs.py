"""What every target of ONNX graphs does before it writes one."""

from __future__ import annotations

import onnx_ir as ir


def without_metadata(model: ir.Model) -> ir.Model:
    """A copy without the compiler's notes, which a device has no use for."""
    copy = model.clone()
    ir.passes.common.ClearMetadataAndDocStringPass()(copy)
    return copy
