"""Running a graph on this machine while compiling."""

from __future__ import annotations

import onnx_ir as ir
import onnxruntime as ort

from ..errors import InputError
from ..runtime.engines import AS_WRITTEN, onnx_session
from .passes.nodes import cast


def serialise(model: ir.Model) -> bytes:
    """The graph as the bytes of an .onnx file."""
    return bytes(ir.serde.serialize_model(model).SerializeToString(deterministic=True))


def half_in_float32(model: ir.Model) -> ir.Model:
    """A copy of a float16 graph that computes each float16 node in float32 and rounds its outputs to float16, overflow included.

    ONNX Runtime's CPU kernels do neither by themselves: they keep float32 between nodes, so that 70,000 stays finite.
    """
    copy = model.clone()
    graph = copy.graph
    wide: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        if node.op_type == "Cast":
            continue
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype != ir.DataType.FLOAT16:
                continue
            if value not in wide:
                widened = cast(value, ir.DataType.FLOAT, f"{value.name}.wide")
                graph.insert_before(node, widened)
                wide[value] = widened.outputs[0]
            node.replace_input_with(index, wide[value])
        for output in node.outputs:
            if output.dtype == ir.DataType.FLOAT16:
                output.dtype = ir.DataType.FLOAT
                users = [(use.node, use.idx) for use in output.uses()]
                rounded = cast(output, ir.DataType.FLOAT16, f"{output.name}.rounded")
                graph.insert_after(node, rounded)
                for user, index in users:
                    user.replace_input_with(index, rounded.outputs[0])
    return copy


def host_session(model: ir.Model | bytes, optimise: bool = True, threads: int = 1, as_written: bool = False) -> ort.InferenceSession:
    """ONNX Runtime over a graph, on this machine's CPU; one thread, so that the outputs repeat bit for bit.

    as_written: Q/DQ pairs stay pairs around float products, for a graph that another engine will run. ONNX Runtime's own int8 kernels
    would saturate in 16 bits on a CPU with AVX2 and no VNNI.
    Raises InputError, with the node that the engine names, for a graph that it has no kernel for.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if as_written:
        options.add_session_config_entry(AS_WRITTEN, "1")
    data = model if isinstance(model, bytes) else serialise(model)
    try:
        session: ort.InferenceSession = onnx_session(data, options)
        return session
    except Exception as error:  # onnxruntime raises its own kinds; the message names the node
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"onnxruntime {ort.__version__} cannot run this graph here: {reason}") from None
