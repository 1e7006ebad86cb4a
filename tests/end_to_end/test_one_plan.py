"""The numerics are decided once: what the three files hold is the plan, and follows it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from edgeslim.compress.quantize import step as quantize
from edgeslim.deploy.run_model import execution_graph, run_model
from edgeslim.devices.machine import this_machine
from edgeslim.export.evaluation.error_by_depth import error_by_depth
from edgeslim.export.evaluation.integer_layers import proven_layers
from edgeslim.export.evaluation.ledger import Row, read_ledger
from edgeslim.export.evaluation.run import Judged, eager_outputs
from edgeslim.export.job import Job, Spelling
from edgeslim.export.tflite import LAYER_OPERATORS
from edgeslim.grid import sqnr_db
from edgeslim.model.fake_quant import simulate
from edgeslim.model.graph import output_nodes, outputs_of_batches
from edgeslim.model.numerics import EdgeNumerics, Numerics
from edgeslim.tasks.task import Score
from tests.support.builds import Plan, make_plan
from tests.support.installed import skip_where_openvino_saturates

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "litert"}
Files = dict[str, tuple[Path, Spelling]]


@pytest.fixture(scope="module")
def files(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return plan.export(plan.quantized, tmp_path_factory.mktemp("files") / "work")


def ledger(plan: Numerics, files: Files, name: str) -> dict[str, Row]:
    return {f"{row.kind} {row.name}": row for row in read_ledger(name, files[name][0], plan, files[name][1])}


def inputs(plan: Plan, name: str) -> np.ndarray:
    channels_last = next(iter(plan.context.data.evaluation.inputs()))
    return channels_last if name == "tflite" else np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_number_of_a_file_is_the_planned_one_or_its_absence_has_a_reason(
    plan: Plan, files: Files, name: str
) -> None:
    rows = ledger(plan.numerics, files, name).values()
    assert [row.name for row in rows if row.state == "differs" or row.unexplained] == []
    assert sum(row.state == "same" for row in rows) > len(rows) / 2


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_planned_layer_is_proven_integer_by_the_runtime(plan: Plan, files: Files, name: str) -> None:
    path, spelling = files[name]
    executed = execution_graph(RUNTIMES[name], path, inputs(plan, name)[:1], "int8")
    assert proven_layers(executed, spelling) == plan.numerics.integer_layers


@pytest.mark.parametrize("name", ["openvino", "tflite"])
def test_the_runtimes_compute_nearly_the_same(plan: Plan, files: Files, name: str) -> None:
    if name == "openvino":
        skip_where_openvino_saturates()
    logits, of_onnx = (
        run_model(RUNTIMES[one], files[one][0], inputs(plan, one), precision="int8")[0] for one in (name, "onnx")
    )
    step = plan.numerics.edges[list(plan.numerics.layers.values())[-1].output].scale
    assert np.abs(logits - of_onnx).max() <= 6 * step


def test_every_files_error_by_depth_is_at_most_the_simulated_one_or_missing_with_a_reason(
    plan: Plan, files: Files, tmp_path: Path
) -> None:
    score, outputs = Score("agreement", "top-1", 100.0, "%", (90.0, 100.0), 1), (np.zeros((1, 4), np.float32),)
    judged = [
        Judged(
            Job(name, "int8", Path(), path, Path()), RUNTIMES[name], spelling, outputs, score, 100.0, (30.0,), 8, (), ()
        )
        for name, (path, spelling) in files.items()
    ]
    found, failures = error_by_depth(plan.dense, plan.quantized, judged, replace(plan.context, work=tmp_path))
    assert failures == []
    assert found is not None
    for row in found.layers:
        edge = plan.numerics.layers[row.name].output
        assert row.exported_db["onnx"] is not None
        assert row.exported_db["tflite"] is not None
        for name, value in row.exported_db.items():
            if value is None:
                assert ledger(plan.numerics, files, name)[f"edge {edge}"].reason, (name, row)
            elif not (name == "openvino" and this_machine().sums_saturate):
                assert value >= row.cumulative_db - 0.5, (name, row)


def test_doubling_one_planned_range_changes_that_scale_and_what_is_tied_to_it_in_all_files(
    plan: Plan, files: Files, tmp_path: Path
) -> None:
    chosen = plan.numerics.layers["conv2d_5"].output  # one branch of the concatenation
    group = {n for n, e in plan.numerics.edges.items() if e.tied_to == plan.numerics.edges[chosen].tied_to}
    assert len(group) > 2
    edges = {n: doubled(e) if n in group else e for n, e in plan.numerics.edges.items()}
    numerics = replace(plan.numerics, edges=edges)
    again = plan.export(replace(plan.quantized, numerics=numerics), tmp_path / "work")
    for name in RUNTIMES:
        before, after = ledger(plan.numerics, files, name), ledger(numerics, again, name)
        changed = {key.removeprefix("edge ") for key in before if before[key].held_scale != after[key].held_scale}
        assert changed, name
        assert changed <= group, name
        assert all(after[f"edge {n}"].held_scale == pytest.approx(edges[n].scale, rel=1e-5) for n in changed), name


def doubled(edge: EdgeNumerics) -> EdgeNumerics:
    return replace(edge, scale=float(np.float32(2 * edge.scale)))


def test_layers_kept_float_are_float_in_every_file_and_compute_what_the_model_does(
    images: Path, tmp_path: Path
) -> None:
    # The depthwise layer reads a ReLU6 that the quantized files leave out: saturation stands for it there.
    kept = make_plan(images, tmp_path, quantize.Settings(keep_float=("^pointwise$", "^depthwise$")))
    files = kept.export(kept.quantized, tmp_path / "work")
    floats = [name for name, layer in kept.numerics.layers.items() if layer.precision == "fp32"]
    assert sorted(kept.numerics.layers[name].weight for name in floats) == ["depthwise.weight", "pointwise.weight"]
    (eager,) = eager_outputs(kept.dense, kept.context.data.evaluation)
    for name, (path, spelling) in files.items():
        executed = execution_graph(RUNTIMES[name], path, inputs(kept, name)[:1], "int8")
        assert proven_layers(executed, spelling) == kept.numerics.integer_layers, name
        assert not set(floats) & set(spelling.weights), name
        (logits,) = run_model(RUNTIMES[name], path, inputs(kept, name), precision="int8")
        assert sqnr_db(eager, logits) >= 20, name


def simulated(plan: Plan) -> np.ndarray:
    """Return what a plan gives for the first 16 images."""
    rows = torch.from_numpy(inputs(plan, "onnx")[:16])
    return simulate(plan.quantized.graph, plan.numerics, [rows])[output_nodes(plan.quantized.graph)[0].name].numpy()


@pytest.mark.parametrize(("wish", "precision"), [("weights_only", "w8"), ("half_weights", "fp16")])
def test_layers_of_which_only_the_weights_are_narrow_compute_in_float_what_the_plan_says(
    wish: str, precision: str, images: Path, tmp_path: Path
) -> None:
    plan = make_plan(images, tmp_path, quantize.Settings(**{wish: ("^pointwise$", "^depthwise$", "^classifier$")}))
    files = plan.export(plan.quantized, tmp_path / "work")
    numerics = plan.numerics
    assert [layer.precision for layer in numerics.layers.values()].count(precision) == 3
    planned = simulated(plan)
    for name, (path, spelling) in files.items():
        executed = execution_graph(RUNTIMES[name], path, inputs(plan, name)[:1], "int8")
        assert proven_layers(executed, spelling) == numerics.integer_layers, name
        found = ledger(numerics, files, name)
        assert {found[f"layer {one}"].state for one in numerics.narrow_layers} == {"same"}, name
        assert not [row for row in found.values() if row.unexplained], name
        if name == "openvino" and this_machine().sums_saturate:
            continue  # its sums are not the plan's there
        (outputs,) = run_model(RUNTIMES[name], path, inputs(plan, name)[:16], precision="int8")
        assert sqnr_db(planned, outputs) >= 40, name


def test_weights_of_seven_bits_are_the_same_in_every_file(images: Path, tmp_path: Path) -> None:
    plan = make_plan(images, tmp_path, quantize.Settings(reduce_range=True))
    files = plan.export(plan.quantized, tmp_path / "work")
    planned = simulated(plan)
    for name, (path, _) in files.items():
        found = ledger(plan.numerics, files, name)
        assert {found[f"layer {one}"].state for one in plan.numerics.integer_layers} == {"same"}, name
        (outputs,) = run_model(RUNTIMES[name], path, inputs(plan, name)[:16], precision="int8")
        assert sqnr_db(planned, outputs) >= 40, f"{name}: no sum of two products overflows 16 bits"


def test_a_dynamic_layer_rounds_what_it_reads_in_litert_alone_as_the_plan_says(images: Path, tmp_path: Path) -> None:
    plan = make_plan(images, tmp_path, quantize.Settings(dynamic=(".",)))
    weights_only = make_plan(images, tmp_path, quantize.Settings(weights_only=(".",)))
    files = plan.export(plan.quantized, tmp_path / "work")
    planned, floats = simulated(plan), simulated(weights_only)
    assert sqnr_db(floats, planned) < 60, "nothing is rounded at run time"
    for name, (path, spelling) in files.items():
        assert sorted(spelling.weights) == sorted(plan.numerics.layers), name
        (outputs,) = run_model(RUNTIMES[name], path, inputs(plan, name)[:16], precision="int8")
        wanted = planned if name == "tflite" else floats
        assert sqnr_db(wanted, outputs) >= 50, name
    interpreter = Interpreter(str(files["tflite"][0]))
    dtypes = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    layers = [op for op in interpreter._get_ops_details() if op["op_name"] in LAYER_OPERATORS]
    assert {(op["op_name"], *(dtypes[one] for one in op["inputs"][:2])) for op in layers} == {
        ("CONV_2D", np.float32, np.int8),
        ("FULLY_CONNECTED", np.float32, np.int8),
        ("DEPTHWISE_CONV_2D", np.float32, np.float32),  # which has no such kernel: its weight is unpacked before
    }


@pytest.mark.parametrize("wish", ["keep_float", "half_weights", "weights_only"])
def test_with_no_layer_on_integers_nothing_that_lies_between_them_is_rounded(
    wish: str, images: Path, tmp_path: Path
) -> None:
    plan = make_plan(images, tmp_path, quantize.Settings(**{wish: (".",)}))
    assert not plan.numerics.edges
    files = plan.export(plan.quantized, tmp_path / "work")
    wanted = outputs_of_batches(plan.quantized.graph, torch.from_numpy(inputs(plan, "onnx")).split(1))[0]
    for name, (path, spelling) in files.items():
        assert not spelling.edges, name
        assert not spelling.nodes, name
        assert sorted(spelling.weights) == sorted(plan.numerics.narrow_layers), name
        (outputs,) = run_model(RUNTIMES[name], path, inputs(plan, name), precision="int8")
        assert sqnr_db(wanted, outputs) >= 90, name


def test_what_lies_between_float_layers_is_float_in_every_file(images: Path, tmp_path: Path) -> None:
    plan = make_plan(images, tmp_path, quantize.Settings(keep_float=("^left$", "^right$", "^classifier$")))
    joined = next(node.name for node in plan.quantized.graph.graph.nodes if node.name.startswith("cat"))
    assert not {joined, "max_pool2d", "mean_1"} & set(plan.numerics.edges)
    files = plan.export(plan.quantized, tmp_path / "work")
    planned = simulated(plan)
    for name, (path, _) in files.items():
        assert not [row for row in ledger(plan.numerics, files, name).values() if row.unexplained], name
        if name == "openvino" and this_machine().sums_saturate:
            continue  # its sums are not the plan's there
        (outputs,) = run_model(RUNTIMES[name], path, inputs(plan, name)[:16], precision="int8")
        assert sqnr_db(planned, outputs) >= 40, name
