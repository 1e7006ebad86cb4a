import io
import json
import subprocess
import sys

import numpy as np
import pytest

from edgeslim.errors import BadInput, Refused, ToolFailed
from edgeslim.formats import RUNTIMES
from edgeslim.measure.operators.times import Operator, operator_times_s
from edgeslim.measure.operators.worker import BATCH
from tests.support import REPOSITORY
from tests.support.installed import skip_without

NARROW, WIDE = Operator("conv", 28, 28, 32, 32), Operator("conv", 28, 28, 256, 256)
SHAPES = {
    "1x1": (NARROW, (28, 28)),
    "one channel": (Operator("conv", 9, 9, 1, 8, (3, 3), (1, 1), (1, 1)), (9, 9)),
    "odd channels": (Operator("conv", 9, 9, 7, 13, (3, 3), (1, 1), (1, 1)), (9, 9)),
    "grouped": (Operator("conv", 8, 8, 16, 32, (3, 3), (1, 1), (1, 1), groups=4), (8, 8)),
    "depthwise": (Operator("conv", 8, 8, 24, 24, (3, 3), (1, 1), (1, 1), groups=24), (8, 8)),
    "depthwise, two filters each": (Operator("conv", 8, 8, 16, 32, (3, 3), (1, 1), (1, 1), groups=16), (8, 8)),
    "strided, even size": (Operator("conv", 8, 8, 16, 8, (3, 3), (2, 2), (1, 1)), (4, 4)),
    "strided, odd size": (Operator("conv", 7, 7, 16, 8, (3, 3), (2, 2), (1, 1)), (4, 4)),
    "strided 1x1": (Operator("conv", 8, 8, 16, 8, (1, 1), (2, 2)), (4, 4)),
    "dilated": (Operator("conv", 12, 12, 16, 8, (3, 3), (1, 1), (2, 2), (2, 2)), (12, 12)),
    "not square": (Operator("conv", 6, 10, 8, 8, (1, 3), (2, 1), (0, 1)), (3, 10)),
    "linear": (Operator("linear", 1, 1, 64, 10), (1, 1)),
    "add": (Operator("add", 8, 8, 16, 16), (8, 8)),
    "mul": (Operator("mul", 8, 8, 16, 16), (8, 8)),
}
OPERATORS = [*(operator for operator, _ in SHAPES.values()), WIDE]


def installed(runtime):
    skip_without(runtime)
    return runtime


@pytest.fixture(scope="session")
def measured(tmp_path_factory):
    """`measured("litert", "int8")` gives the cache's folder and the times of OPERATORS in it, measured once."""
    made = {}

    def times_of(runtime, precision):
        installed(runtime)
        if (runtime, precision) not in made:
            cache = tmp_path_factory.mktemp(f"times_{runtime}_{precision}")
            made[runtime, precision] = (
                cache,
                operator_times_s(runtime, precision, OPERATORS, threads=1, cache=cache),
            )
        return made[runtime, precision]

    return times_of


@pytest.fixture(scope="session")
def litert_cache(measured):
    return measured("litert", "int8")[0]


@pytest.fixture
def own_cache(litert_cache, tmp_path):
    """A copy of a filled cache, and its only file."""
    (source,) = litert_cache.iterdir()
    file = tmp_path / source.name
    file.write_bytes(source.read_bytes())
    return tmp_path, file


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_shape_gets_a_time_and_a_wide_convolution_a_longer_one(runtime, precision, measured):
    _, times = measured(runtime, precision)
    assert list(times) == OPERATORS, "an operator is missing, or their order is lost"
    assert all(0 <= time < 0.1 for time in times.values()), "a time is no time of a small operator in seconds"
    assert times[WIDE] > 3 * times[NARROW], "64 times the products take hardly longer: what is timed is no convolution"


def output_shape(runtime, operator, precision):
    """Return what the runtime itself says the probe's operator gives: (height, width, channels)."""
    if runtime == "litert":
        from ai_edge_litert.interpreter import Interpreter

        from edgeslim.measure.operators.tflite import model_of

        interpreter = Interpreter(model_content=model_of(operator, precision), num_threads=1)
        interpreter.allocate_tensors()
        for tensor in interpreter.get_input_details():
            interpreter.set_tensor(tensor["index"], np.zeros(tensor["shape"], tensor["dtype"]))
        interpreter.invoke()
        shape = interpreter.get_output_details()[0]["shape"]
        return tuple(shape[1:]) if len(shape) == 4 else (1, 1, shape[1])
    from edgeslim.measure.operators import onnx as probe

    if runtime == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(probe.model_of(operator, precision).SerializeToString())
        dtype = np.uint8 if precision == "int8" else np.float32
        arrays = [np.zeros(shape, dtype) for shape in probe.input_shapes(operator)]
        shape = session.run(None, {f"x{i}": array for i, array in enumerate(arrays)})[0].shape
    else:
        import openvino

        model = openvino.Core().read_model(io.BytesIO(probe.side_by_side([operator], precision).SerializeToString()))
        (node,) = [op for op in model.get_ops() if op.get_friendly_name() == "op0.probe"]
        shape = tuple(node.output(0).get_shape())
    return (*shape[2:], shape[1]) if len(shape) == 4 else (1, 1, shape[1])


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", SHAPES)
def test_a_probe_gives_the_shape_that_its_operator_gives(name, runtime):
    operator, size = SHAPES[name]
    assert operator.output_size == size, "the operator is another one than the test thinks"
    for precision in ("int8", "fp32"):
        found = output_shape(installed(runtime), operator, precision)
        assert found == (*size, operator.channels_out), f"the {precision} probe computes something else"


def test_onnxruntime_runs_nothing_but_the_integer_kernel(tmp_path):
    installed("onnxruntime")
    import onnx
    import onnxruntime

    from edgeslim.measure.operators.onnx import bare, model_of

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    for operator, kernel in ((NARROW, "QLinearConv"), (SHAPES["linear"][0], "QGemm"), (SHAPES["add"][0], "QLinearAdd")):
        onnxruntime.InferenceSession(model_of(operator, "int8").SerializeToString(), options)
        model, _ = bare(onnx.load(tmp_path / "optimized.onnx"))
        assert [node.op_type for node in model.graph.node] == [kernel], "more is timed than the operator on integers"


def test_litert_weights_are_integers_with_a_scale_for_each_output_channel():
    installed("litert")
    from ai_edge_litert.interpreter import Interpreter

    from edgeslim.measure.operators.tflite import model_of

    for name in ("grouped", "depthwise", "linear"):
        operator = SHAPES[name][0]
        tensors = Interpreter(model_content=model_of(operator, "int8")).get_tensor_details()
        weight = next(tensor for tensor in tensors if tensor["name"] == "weight")
        parameters = weight["quantization_parameters"]
        assert weight["dtype"] == np.int8, f"{name}: the weights are not integers"
        assert len(parameters["scales"]) == operator.channels_out, f"{name}: the scales are not those of channels"
        assert weight["shape"][parameters["quantized_dimension"]] == operator.channels_out, f"{name}: wrong axis"


def test_an_operator_that_openvino_runs_in_float_is_not_taken_for_an_integer_one():
    installed("openvino")
    import openvino

    from edgeslim.measure.operators.onnx import side_by_side
    from edgeslim.measure.operators.worker import _owners

    def compiled(precision):
        core = openvino.Core()
        model = core.read_model(io.BytesIO(side_by_side([NARROW], precision).SerializeToString()))
        options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        return core.compile_model(model, "CPU", options)

    assert list(_owners(compiled("int8"), [NARROW], "int8").values()) == [0], "the integer node was not found"
    with pytest.raises(RuntimeError, match="does not run on integers; OpenVINO runs it in"):
        _owners(compiled("fp32"), [NARROW], "int8")


def test_known_times_are_returned_without_a_process(own_cache, monkeypatch):
    cache, file = own_cache
    before = file.read_bytes()
    monkeypatch.setattr(sys, "executable", "/no/such/python")  # a process would fail to start
    first = operator_times_s("litert", "int8", [WIDE, NARROW], threads=1, cache=cache)
    assert list(first) == [WIDE, NARROW], "the times are not those asked for, in their order"
    assert file.read_bytes() == before, "the cache was written again"


def test_only_what_is_missing_is_measured(own_cache):
    cache, file = own_cache
    known = {json.dumps(row["operator"]): row["seconds"] for row in json.loads(file.read_text())["times"]}
    new = Operator("conv", 5, 5, 8, 8)
    operator_times_s("litert", "int8", [NARROW, new], threads=1, cache=cache)
    after = {json.dumps(row["operator"]): row["seconds"] for row in json.loads(file.read_text())["times"]}
    assert len(after) == len(known) + 1, "the new operator was not kept"
    assert known.items() <= after.items(), "a known time was measured again or lost"


def test_times_of_other_conditions_lie_in_other_files(own_cache):
    cache, _ = own_cache
    operator_times_s("litert", "fp32", [NARROW], threads=1, cache=cache)
    operator_times_s("litert", "int8", [NARROW], threads=2, cache=cache)
    assert len(list(cache.iterdir())) == 3, "times of two precisions or numbers of threads are mixed"


def test_an_interrupt_loses_the_present_batch_at_most(tmp_path):
    installed("litert")
    operators = [Operator("linear", 1, 1, 8, 1 + index) for index in range(BATCH + 5)]

    def interrupt(_doing, done, _total):
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        operator_times_s("litert", "int8", operators, threads=1, cache=tmp_path, progress=interrupt)
    (file,) = tmp_path.iterdir()
    assert len(json.loads(file.read_text())["times"]) == BATCH, "the first batch was not kept"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda text: text[: len(text) // 2], "no table of operator times"),
        (lambda text: text.replace('"kernel": [1, 1]', '"kernel": [0, 1]'), "sizes are at least 1"),
        (lambda text: text.replace('"seconds": ', '"seconds": -', 1), "a time is negative"),
        (lambda text: text.replace('"threads": 1', '"threads": 2'), "other conditions than its name says"),
        (lambda text: text.replace('"threads": 1', '"threads": 1, "colour": 2'), "no table of operator times"),
    ],
)
def test_a_damaged_cache_is_named_and_not_used(damage, complaint, own_cache):
    cache, file = own_cache
    file.write_text(damage(file.read_text()))
    with pytest.raises(ToolFailed, match=complaint) as failure:
        operator_times_s("litert", "int8", [NARROW], threads=1, cache=cache)
    assert str(file) in str(failure.value), "the file is not named"
    assert "can be deleted" in str(failure.value), "the message does not say what to do"


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    installed("litert")
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(ToolFailed, match=r"file/litert.* cannot be"):
        operator_times_s("litert", "int8", [NARROW], threads=1, cache=occupied)


@pytest.mark.parametrize("runtime", ["tensorrt", "ethos-u"])
def test_a_runtime_that_does_not_run_here_is_refused(runtime, tmp_path):
    with pytest.raises(Refused, match=f"operators cannot be timed in `{runtime}`"):
        operator_times_s(runtime, "int8", [NARROW], threads=1, cache=tmp_path)


@pytest.mark.parametrize(("precision", "threads"), [("int4", 1), ("int8", 0)])
def test_a_precision_or_a_number_of_threads_that_cannot_be_is_refused(precision, threads, tmp_path):
    runtime = installed("litert")
    with pytest.raises(BadInput, match="was expected"):
        operator_times_s(runtime, precision, [NARROW], threads=threads, cache=tmp_path)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (("pool", 4, 4, 8, 8), "its kind is one of"),
        (("conv", 4, 4, 0, 8), "at least 1"),
        (("conv", 4, 4, 8, 8, (1, 1), (1, 1), (0, 0), (1, 1), 3), "groups divide"),
        (("conv", 4, 4, 8, 8, (7, 7)), "the kernel fits"),
        (("linear", 2, 1, 8, 8), "height and width 1"),
        (("add", 4, 4, 8, 16), "keeps the number of channels"),
    ],
)
def test_an_operator_that_cannot_exist_is_refused(fields, complaint):
    with pytest.raises(BadInput, match=complaint):
        Operator(*fields)


def test_the_worker_loads_no_torch():
    script = "import sys, edgeslim.measure.operators.worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", "every batch would wait for torch"
