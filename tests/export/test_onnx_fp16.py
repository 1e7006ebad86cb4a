"""fp16 ONNX files: which tensors are float16, where casts stand, and that the file computes what the plan says."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from edgeslim.compress import fold, mixed_precision
from edgeslim.export import export, stored_precisions
from edgeslim.export.job import Job
from edgeslim.model.context import Context
from edgeslim.model.graph import program_of
from edgeslim.model.model import Model
from edgeslim.model.simulate_fp16 import HalfNetwork
from tests.support.fp16_models import on_gpu, scaled
from tests.support.small_models import headed, model_of, of_every_kind, random_images

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def written(network: nn.Module, folder, **settings) -> tuple[onnx.ModelProto, Model]:
    surroundings: Context = on_gpu()
    model = mixed_precision.apply(
        fold.apply(model_of(network), fold.Settings(), surroundings), mixed_precision.Settings(**settings), surroundings
    )
    images = next(iter(surroundings.data.calibration.tensors()))
    torch.export.save(program_of(model.graph, images[:1]), folder / "fp16.pt2")
    np.save(folder / "probe.npy", images.numpy())
    model.half.save(folder / "half.json")
    target = folder / "onnx" / "model_fp16.onnx"
    job = Job(
        "onnx",
        "fp16",
        folder / "fp16.pt2",
        target,
        folder / "probe.npy",
        half=folder / "half.json",
        outputs=("logits",),
    )
    export(job, folder / "fp16.log")
    file = onnx.load(target)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(file, strict_mode=True, data_prop=True), full_check=True)
    return file, model


def types(file: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(file, strict_mode=True).graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    return {one.name: one.type.tensor_type.elem_type for one in infos} | {
        i.name: i.data_type for i in graph.initializer
    }


def casts(file: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in file.graph.node if node.op_type == "Cast"]


def test_a_network_without_kept_operators_has_two_casts_and_fp16_between_them(tmp_path):
    file, model = written(of_every_kind(), tmp_path)
    assert [(cast.input[0], cast.output[0]) for cast in casts(file)] == [
        ("input", "input_to_fp16"),
        ("logits_inner", "logits"),
    ], "casts stand elsewhere than at the ends"
    found = types(file)
    assert (found["input"], found["logits"]) == (FLOAT, FLOAT), "the ends are not fp32"
    assert {found[i.name] for i in file.graph.initializer if i.data_type != TensorProto.INT64} == {HALF}, "fp32 weights"
    weights = [one.weight for one in model.half.operators if one.weight]
    held = stored_precisions(tmp_path / "onnx" / "model_fp16.onnx", weights)
    assert held == dict.fromkeys(weights, "fp16"), "the file's weights are not found under their names in fp16"


def test_fp16_ends_need_no_cast(tmp_path):
    file, _ = written(of_every_kind(), tmp_path, io="fp16")
    assert casts(file) == [], "a cast stands in a file that is fp16 throughout"
    assert (types(file)["input"], types(file)["logits"]) == (HALF, HALF), "the ends are not fp16"


def test_kept_layers_have_fp32_weights_and_casts_only_around_them(tmp_path):
    network = headed(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 1), nn.ReLU())
    with torch.no_grad():
        network[2].weight.mul_(3e6)
        network[2].bias.mul_(3e6)
        network[3].weight.mul_(1e-6)
    file, model = written(network, tmp_path)
    assert set(model.half.kept) == {"conv2d_1", "conv2d_2"}, "the test's network overflows elsewhere"
    weights = {one.weight: one.precision for one in model.half.operators if one.weight}
    held = stored_precisions(tmp_path / "onnx" / "model_fp16.onnx", weights)
    assert held == weights, "a weight is held in another precision than planned"
    assert len(casts(file)) == 4, "one cast at each end, one before and one behind the kept layers"


@pytest.mark.parametrize("network", [of_every_kind, lambda: scaled(3e5, 1e-5)])
def test_the_file_computed_in_real_float16_equals_the_simulation(network, tmp_path):
    file, model = written(network(), tmp_path)
    session = ReferenceEvaluator(file)  # numpy: every float16 value is rounded, none is kept wider
    simulated = HalfNetwork(model.graph, model.half.kept)
    for image in random_images(4).tensors():
        for row in image.split(1):
            with torch.no_grad():
                wanted = simulated.run(row).numpy()
            (found,) = session.run(None, {"input": row.numpy()})
            peak = np.abs(wanted).max()
            assert np.abs(found - wanted).max() <= 4e-3 * peak, "the file computes something else than the simulation"


def test_onnx_runtime_on_a_cpu_keeps_fp16_values_wider_which_is_why_fp16_is_simulated(tmp_path):
    file, _ = written(of_every_kind(), tmp_path)
    for one in file.graph.initializer:  # an overflow that a GPU would have
        if one.data_type == HALF:
            one.CopyFrom(
                numpy_helper.from_array(
                    (numpy_helper.to_array(one).astype(np.float32) * 300).astype(np.float16), one.name
                )
            )
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    image = next(iter(random_images(1).tensors())).numpy()
    with np.errstate(all="ignore"):
        (real,) = ReferenceEvaluator(file).run(None, {"input": image})
    assert not np.isfinite(real).all(), "nothing overflowed in float16"
    (found,) = session.run(None, {"input": image})
    assert np.isfinite(found).all(), "ONNX Runtime's CPU rounds to fp16 now: the file itself can be judged there"
