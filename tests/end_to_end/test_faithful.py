"""What is built computes what the user's module computes, and a build that cannot hold to that says where it parts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import edgeslim
from edgeslim.compress import fold
from edgeslim.devices.profile import load_profile
from edgeslim.errors import BadData, Refused
from edgeslim.export import float_values
from edgeslim.export.evaluation.run import judge_all
from edgeslim.export.job import Job, Spelling, program_path
from edgeslim.grid import sqnr_db
from edgeslim.model.context import Context
from edgeslim.model.equivalence import LEAST_DB, first_parting, outputs_of
from edgeslim.model.graph import program_of
from edgeslim.model.load import load_model
from edgeslim.model.model import Model
from edgeslim.pipeline.result import BuildReport
from edgeslim.progress import silent
from edgeslim.resources import default_model_folder
from edgeslim.tasks.images import Data, ImageSet
from tests.support import TESTS
from tests.support.builds import NET, recipe_for

PI = load_profile("raspberry-pi")
AWKWARD = f"{TESTS / 'support' / 'awkward_net.py'}:make"


@dataclass(frozen=True)
class Awkward:
    """The awkward network built in every format, and the module it was built from."""

    report: BuildReport
    model: Model
    data: Data

    @property
    def folder(self) -> Path:
        return self.report.artifact.folder

    @property
    def inputs(self) -> torch.Tensor:
        return torch.from_numpy(np.load(self.folder / "golden" / "inputs_nchw.npy"))

    def float_file(self, name: str) -> Path:
        (found,) = [
            one for one in self.report.artifact.manifest.models if (one.format, one.precision) == (name, "fp32")
        ]
        return self.folder / found.path


@pytest.fixture(scope="module")
def awkward(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Awkward:
    wanted = recipe_for("raspberry-pi", prune=False, formats=("onnx", "openvino", "tflite"), max_drop_points=50.0)
    out = tmp_path_factory.mktemp("awkward") / "a"
    report = edgeslim.build(AWKWARD, device="raspberry-pi", data=str(images), recipe=wanted, out=out)
    model = load_model(AWKWARD)
    model.network.eval()
    return Awkward(report, model, model.task.read(str(images), model.facts))


def test_linear_layers_along_other_axes_and_uneven_pools_are_built_right_in_every_format(awkward: Awkward) -> None:
    (eager,) = outputs_of(awkward.model.network, awkward.inputs)
    for model in awkward.report.artifact.manifest.models:
        found = np.load(awkward.folder / model.outputs[0].golden)
        least = LEAST_DB if model.precision == "fp32" else 15.0
        assert sqnr_db(eager, found) >= least, f"{model.path} computes something else"


def test_the_error_of_every_layer_is_read_where_converters_drop_the_batch_axis(awkward: Awkward) -> None:
    depth = awkward.report.artifact.manifest.error_by_depth
    assert depth is not None
    assert not [line for line in awkward.report.warnings if "error by depth" in line]
    for row in depth.layers:
        assert row.exported_db["tflite"] is not None, f"{row.name} was not read"
        assert row.exported_db["onnx"] > row.cumulative_db - 1, f"{row.name} is read as something else"
        assert row.exported_db["tflite"] > row.cumulative_db - 6, f"{row.name} is read as something else"


@pytest.mark.parametrize("name", ["onnx", "openvino", "tflite"])
def test_a_right_file_parts_nowhere_from_the_network_it_was_made_from(awkward: Awkward, name: str) -> None:
    image = awkward.inputs[:1]
    graph, _ = fold.folded(awkward.model.network, awkward.model.input_shape)
    values = float_values(name, awkward.float_file(name), image.numpy())
    assert first_parting(graph, image, values.values(), LEAST_DB) is None


def test_a_float_file_that_computes_something_else_is_refused_with_the_node_where_they_part(
    awkward: Awkward, tmp_path: Path
) -> None:
    model = onnx.load(awkward.float_file("onnx"))
    weight = next(one for one in model.graph.initializer if one.name == "narrow.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.5), weight.name))
    onnx.save(model, tmp_path / "model_fp32.onnx")
    context = Context(PI, awkward.data, 0, tmp_path, silent)
    dense = fold.apply(awkward.model, fold.Settings(), context)
    torch.export.save(program_of(dense.graph, awkward.inputs[:1]), program_path(tmp_path, "fp32"))
    job = Job(
        "onnx",
        "fp32",
        program_path(tmp_path, "fp32"),
        tmp_path / "model_fp32.onnx",
        tmp_path / "none",
        outputs=("logits",),
    )
    refused = (
        r"the onnx fp32 export does not compute what the model does: SQNR .* 60.0 dB demanded; "
        r"the two part at `conv2d_2` \(module narrow\)"
    )
    with pytest.raises(Refused, match=refused):
        judge_all([(job, Spelling())], dense, dense, 1, context)


def test_a_network_that_was_pruned_too_far_for_the_images_that_judge_is_built_whole_and_says_so(
    tmp_path: Path,
) -> None:
    # What is chosen on images that the network is sure of is judged on images that it is not.
    model = load_model(NET, "random")
    coarse = np.random.default_rng(3).integers(0, 256, (3000, 4, 4, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    some = np.concatenate(
        [outputs_of(model.network, batch)[0] for batch in ImageSet(coarse, None, model.preprocessing).tensors()]
    )
    ranked = np.sort(some, axis=1)
    surest = np.argsort(ranked[:, -2] - ranked[:, -1])
    places = np.random.default_rng(0).permutation(1000)  # as data is split: 250 calibrate, 250 select, 500 judge
    pictures = np.empty((1000, 16, 16, 3), np.uint8)
    pictures[places[:250]] = coarse[np.sort(surest)[:250]]
    pictures[places[250:500]] = coarse[surest[:250]]
    pictures[places[500:]] = coarse[surest[1500:2500:2]]
    np.savez(tmp_path / "set.npz", images=pictures)
    report = edgeslim.build(
        NET, weights="random", device="raspberry-pi", data=str(tmp_path / "set.npz"), out=tmp_path / "a",
        recipe=recipe_for("raspberry-pi", prune=True, formats=("onnx",), max_drop_points=5.0),
    )  # fmt: skip
    manifest = report.artifact.manifest
    assert manifest.status == "accepted"
    assert manifest.model.macs == manifest.model.original_macs, "channels are gone"
    (line,) = [one for one in report.warnings if one.startswith("prune: nothing: pruned as the selection images allow")]
    assert "onnx int8 loses" in line
    assert "5 are allowed (--max-drop)" in line
    assert "pruned as the selection images allow" in (report.artifact.folder / "CHANGELOG.md").read_text()
    assert any(trial.accepted for trial in edgeslim.inspect(report.artifact.folder).trials), "what was tried is lost"


def test_labels_in_another_order_end_a_build_before_any_work(tmp_path: Path) -> None:
    with np.load(default_model_folder() / "evaluation.npz") as file:
        np.savez(tmp_path / "set.npz", images=file["images"][:400], labels=(file["labels"][:400] + 3) % 10)
    with pytest.raises(BadData, match="in another order than the classes of default"):
        edgeslim.build(device="raspberry-pi", data=str(tmp_path / "set.npz"), out=tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.npz"], "something was left"
