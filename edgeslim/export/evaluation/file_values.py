"""The values that layers write in an exported INT8 file, read from its own runtime.

A worker reads them: what it finds at a layer's output edge it leaves as FOLDER/EDGE.npy. Only what the file names is
read, by the tensor that holds the edge; where there is none, or where it cannot be watched, there is no file.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeslim.errors import ToolFailed
from edgeslim.export import read_back, tflite_ends
from edgeslim.export.job import Held, Job, Spelling, load_spelling
from edgeslim.export.process import run_worker
from edgeslim.model.numerics import MIDDLE, Numerics, load_numerics

Images = NDArray[np.float32]
Found = Iterator[tuple[str, NDArray[np.float32]]]


def edge_values(job: Job, spelling: Spelling, numerics: Numerics, images: Images, work: Path) -> dict[str, Path]:
    """Return {edge: .npy file of its real values (n, ...)} for the layers' output edges that the job's file holds.

    `images` (n, C, H, W) are run one by one in a worker; the values have the file's layout. The .npy files lie
    in `work`. Raises ToolFailed where the runtime fails.
    """
    folder = work / f"{job.format}_edges"
    values = folder / "values"
    values.mkdir(parents=True)
    told = [folder / name for name in ("spelling.json", "numerics.json", "images.npy")]
    spelling.save(told[0])
    numerics.save(told[1])
    np.save(told[2], images)
    log, what = folder / "values.log", f"the reader of the {job.format} file's values"
    arguments = [job.format, job.target, *told, values]
    try:
        run_worker("edgeslim.export.evaluation.file_values", arguments, log, what, f"{job.format} values")
    except ToolFailed as error:  # a diagnostic: its log goes with the work folder
        raise ToolFailed(error.message.partition("; its log:")[0]) from error
    outputs = {layer.output for layer in numerics.layers.values()}
    return {edge: file for edge in outputs if (file := values / f"{edge}.npy").is_file()}


def _onnx(path: Path, spelling: Spelling, numerics: Numerics, images: Images) -> Found:
    """Watch the integers behind each tensor's QuantizeLinear: a float output would keep its layer from fusing."""
    held = _held_outputs(read_back("onnx", path, spelling)[0], numerics)
    import onnx
    import onnxruntime  # read_back has imported it with its telemetry off

    model = onnx.load(path)
    codes = {n.input[0]: n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    names = {edge: codes[spelling.edges[edge]] for edge in held}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names.values()))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")  # x86 without VNNI would saturate sums
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = session.get_inputs()[0].name
    runs = [session.run(list(names.values()), {fed: row[None]}) for row in images] if names else []
    for edge, *found in zip(names, *runs, strict=True):
        codes_of = np.stack(found)
        shift = MIDDLE if codes_of.dtype == np.int8 else 0
        yield edge, _real(codes_of, held[edge].scale[0], held[edge].zero_point - shift)


def _openvino(path: Path, spelling: Spelling, numerics: Numerics, images: Images) -> Found:
    """Watch one edge at a time: what is watched is not fused with what reads it, which would change what follows.

    A layer whose output the file does not quantize is watched at its own operator.
    """
    held = _held_outputs(read_back("openvino", path, spelling)[0], numerics)
    import openvino  # read_back has imported it with its telemetry off

    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    for name, layer in numerics.layers.items():
        model = core.read_model(path)
        operations = {op.get_friendly_name(): op for op in model.get_ordered_ops()}
        if layer.output in held:
            tensor = spelling.edges[layer.output]
            # OpenVINO names the last operation after the output it produces.
            watched = operations.get(f"{tensor}_dequantize", operations.get(tensor.removesuffix("_float")))
        else:
            watched = _float_output(operations.get(spelling.nodes.get(name, "")), fused=layer.output != name)
        if watched is None:
            continue
        request = core.compile_model(
            openvino.Model([watched.output(0)], model.get_parameters()), "CPU", options
        ).create_infer_request()
        yield layer.output, np.stack([request.infer([row[None]])[0].copy() for row in images])


def _float_output(operation: Any, *, fused: bool) -> Any:
    """Return the operation that yields a layer's output in float: itself, or the activation that alone reads it."""
    if operation is None or not fused:
        return operation
    readers = [port.get_node() for port in operation.output(0).get_target_inputs()]
    return readers[0] if len(readers) == 1 and readers[0].get_type_name() in ("Relu", "Clamp") else None


def _tflite(path: Path, spelling: Spelling, numerics: Numerics, images: Images) -> Found:
    """Keep all tensors; the delegate computes as it does without."""
    from ai_edge_litert.interpreter import Interpreter

    held = _held_outputs(read_back("tflite", path, spelling)[0], numerics)
    interpreter = Interpreter(str(path), experimental_preserve_all_tensors=True, num_threads=1)
    interpreter.allocate_tensors()
    tensors = {str(t["name"]): t for t in interpreter.get_tensor_details()}
    fed, grid = interpreter.get_input_details()[0]["index"], tflite_ends(path).input.grid
    found: dict[str, list[NDArray[Any]]] = {edge: [] for edge in held}
    for row in images.transpose(0, 2, 3, 1):
        interpreter.set_tensor(fed, np.ascontiguousarray(row if grid is None else grid.codes(row))[None])
        interpreter.invoke()
        for edge, values in found.items():
            values.append(np.array(interpreter.get_tensor(tensors[spelling.edges[edge]]["index"])))
    for edge, values in found.items():
        stored = tensors[spelling.edges[edge]]["quantization_parameters"]  # as stored: the ledger's is shifted to uint8
        yield edge, _real(np.stack(values), held[edge].scale[0], int(stored["zero_points"][0]))


def _held_outputs(held: Mapping[str, Held], numerics: Numerics) -> dict[str, Held]:
    """Return what a file holds for the edges that layers write, in the layers' order."""
    return {layer.output: held[layer.output] for layer in numerics.layers.values() if layer.output in held}


def _real(codes: NDArray[Any], scale: float, zero_point: int) -> NDArray[np.float32]:
    return (codes.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)


_READERS: dict[str, Callable[[Path, Spelling, Numerics, Images], Found]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "tflite": _tflite,
}


def main(name: str, *paths: str) -> None:
    """Read the values of one file and leave them behind, one .npy file an edge.

    `paths`: the model, its spelling, the numerics, the images, and the folder for what is found.
    """
    model, spelling, numerics, images, folder = map(Path, paths)
    warnings.simplefilter("ignore")  # LiteRT's, that keeping all tensors is for debugging
    for edge, values in _READERS[name](model, load_spelling(spelling), load_numerics(numerics), np.load(images)):
        np.save(folder / f"{edge}.npy", values)
