import numpy as np
import onnx_ir as ir
import pytest

from edgeattn.models.reference import Samples
from edgeattn.quantize.ranges import value_ranges


def doubled(batch: int | str) -> ir.Model:
    """y = x + x, for so many samples a call."""
    x = ir.Value(name="x", shape=ir.Shape([batch, 2]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Add", [x, x])
    y = node.outputs[0]
    y.name, y.shape, y.type = "y", x.shape, x.type
    return ir.Model(ir.Graph([x], [y], nodes=[node], opset_imports={"": 21}, name="doubled"), ir_version=10)


@pytest.mark.parametrize(("batch", "samples", "read"), [("batch", 3, 3), ("batch", 13, 13), (4, 13, 12), (150, 300, 150)])
def test_ranges_cover_few_samples_and_large_fixed_batches(batch, samples, read):
    x = np.arange(2 * samples, dtype=np.float32).reshape(samples, 2)
    assert value_ranges(doubled(batch), Samples({"x": x})) == {"x": (0, 2 * read - 1), "y": (0, 4 * read - 2)}
