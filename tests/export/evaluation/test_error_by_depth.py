"""The error by depth: what a layer adds, what gathers, and that a file's figure is that of its own tensor."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from tests.support.small_models import Passing, context, headed, model_of, random_images, randomized

pytest.importorskip("onnx", reason="onnx is not installed; pip install 'edgeslim[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; pip install 'edgeslim[onnx]'")

from edgeslim.artifact.manifest import LayerError
from edgeslim.compress import fold
from edgeslim.compress.quantize import step as quantize
from edgeslim.export.evaluation.error_by_depth import IMAGES, error_by_depth
from edgeslim.export.evaluation.file_values import edge_values
from edgeslim.export.evaluation.run import Judged
from edgeslim.export.job import Job, Spelling
from edgeslim.grid import sqnr_db
from edgeslim.model.fake_quant import simulate
from edgeslim.model.graph import values_of
from edgeslim.model.numerics import Numerics
from edgeslim.report.inspection import DepthRow, own_share_pct
from edgeslim.report.inspection_tables import depth_table
from edgeslim.report.tables import rendered
from edgeslim.tasks.task import Score

SET = random_images(40)
BATCH = next(iter(SET.tensors()))[:IMAGES]


def chain() -> nn.Module:
    return randomized(
        Passing(
            lambda self, x: self.head(self.second(self.first(x).relu()).relu()),
            first=nn.Conv2d(3, 6, 3, padding=1),
            second=nn.Conv2d(6, 6, 3, padding=1),
            head=headed(),
        )
    )


@pytest.fixture(scope="module")
def dense():
    return fold.apply(model_of(chain()), fold.Settings(), context(SET))


@pytest.fixture(scope="module")
def planned(dense):
    return quantize.apply(dense, quantize.Settings(), context(SET))


def rows(dense, planned, judged=(), work: Path = Path()) -> dict[str, LayerError]:
    found, failures = error_by_depth(dense, planned, judged, context(SET, work))
    assert failures == []
    return {row.name: row for row in found.layers}


def coarser(numerics: Numerics, edge: str, factor: float) -> Numerics:
    """Return the plan with the steps of one edge wider by `factor`."""
    wide = replace(numerics.edges[edge], scale=float(np.float32(factor * numerics.edges[edge].scale)))
    return replace(numerics, edges={**numerics.edges, edge: wide})


def test_there_is_a_row_for_every_layer_in_graph_order_and_none_without_a_plan(dense, planned):
    assert list(rows(dense, planned)) == ["conv2d", "conv2d_1", "linear"]
    assert error_by_depth(dense, dense, (), context(SET)) == (None, [])


def test_the_cumulative_figure_is_the_simulated_plan_against_the_float_network(dense, planned):
    wanted, found = values_of(dense.graph, BATCH), simulate(planned.graph, planned.numerics, [BATCH])
    for name, row in rows(dense, planned).items():
        edge = planned.numerics.layers[name].output
        assert row.cumulative_db == sqnr_db(wanted[edge].numpy(), found[edge].numpy()), name


def test_the_first_layer_inherits_no_noise_and_the_last_does(dense, planned):
    by_name = rows(dense, planned)
    assert by_name["conv2d"].layer_db == by_name["conv2d"].cumulative_db
    assert by_name["conv2d_1"].layer_db > by_name["conv2d_1"].cumulative_db


def test_noise_at_one_edge_shows_in_its_layer_alone_and_in_all_that_gathers_behind_it(dense, planned):
    before = rows(dense, planned)
    edge = planned.numerics.layers["conv2d_1"].output
    after = rows(dense, replace(planned, numerics=coarser(planned.numerics, edge, 16)))
    assert after["conv2d"] == before["conv2d"], "a layer before it changed"
    assert after["conv2d_1"].layer_db < before["conv2d_1"].layer_db - 10
    assert after["linear"].cumulative_db < before["linear"].cumulative_db - 3
    assert after["linear"].layer_db == before["linear"].layer_db, "the layer behind is blamed for it"


def test_a_layer_kept_float_adds_nothing_of_its_own(dense):
    kept = quantize.apply(dense, quantize.Settings(keep_float=("second",)), context(SET))
    assert rows(dense, kept)["conv2d_1"].layer_db is None


def test_a_part_of_the_data_that_is_small_is_used_whole(dense, planned):
    few = replace(context(SET), data=replace(context(SET).data, selection=random_images(3)))
    assert error_by_depth(dense, planned, (), few)[0].images == 3


# Through the export: ONNX alone is written here, the three formats meet in tests/end_to_end.


@pytest.fixture(scope="module")
def written(planned, tmp_path_factory) -> tuple[Job, Spelling]:
    from edgeslim.export.export_all import export_job
    from edgeslim.model.graph import program_of

    work = tmp_path_factory.mktemp("written")
    np.save(work / "probe.npy", BATCH.numpy())
    planned.numerics.save(work / "numerics.json")
    torch.export.save(program_of(planned.graph, BATCH[:1]), work / "int8.pt2")
    return export_job("onnx", "int8", work, ["logits"])


def judged(job: Job, spelling: Spelling) -> Judged:
    score = Score("agreement", "top-1", 100.0, "%", (90.0, 100.0), 1)
    return Judged(job, "onnxruntime", spelling, np.zeros((1, 4), np.float32), score, 100.0, 30.0, 3, (), ())


def test_a_files_figures_are_those_of_its_plan(dense, planned, written, tmp_path):
    for name, row in rows(dense, planned, [judged(*written)], tmp_path).items():
        assert row.exported_db == {"onnx": pytest.approx(row.cumulative_db, abs=0.3)}, name


def test_an_edge_without_a_tensor_in_the_file_has_no_figure(dense, planned, written, tmp_path):
    job, spelling = written
    edge = planned.numerics.layers["conv2d_1"].output
    without = replace(spelling, edges={e: t for e, t in spelling.edges.items() if e != edge})
    found = rows(dense, planned, [judged(job, without)], tmp_path)
    assert [row.exported_db["onnx"] is None for row in found.values()] == [False, True, False]


def test_watching_a_file_changes_none_of_its_logits(planned, written, tmp_path):
    from edgeslim.deploy.run_model import run_model

    job, spelling = written
    files = edge_values(job, spelling, planned.numerics, BATCH.numpy(), tmp_path)
    (logits,) = run_model("onnxruntime", job.target, BATCH.numpy(), precision="int8")
    assert np.array_equal(np.load(files["linear"]).reshape(logits.shape), logits)


def test_a_file_that_cannot_be_read_is_a_sentence_and_figures_of_none(dense, planned, written, tmp_path):
    job, spelling = written
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    broken = replace(job, target=tmp_path / "broken.onnx")
    found, failures = error_by_depth(dense, planned, [judged(broken, spelling)], context(SET, tmp_path))
    assert [row.exported_db for row in found.layers] == [{"onnx": None}] * 3
    assert len(failures) == 1
    assert failures[0].startswith("error by depth: the reader of the onnx file's values failed: ")


# As a person sees it.


def error(layer_db: float | None, cumulative_db: float, onnx: float | None) -> LayerError:
    return LayerError(name="conv2d", layer_db=layer_db, cumulative_db=cumulative_db, exported_db={"onnx": onnx})


@pytest.mark.parametrize(
    ("layer_db", "cumulative_db", "share"), [(30.0, 30.0, 100.0), (40.0, 30.0, 10.0), (30.0, 40.0, 100.0)]
)
def test_the_own_share_is_the_part_of_the_noise_a_layer_makes(layer_db, cumulative_db, share):
    assert own_share_pct(error(layer_db, cumulative_db, None)) == share


def test_the_table_shows_the_drop_and_why_a_figure_is_missing():
    shown = [
        DepthRow("stem", error(40.0, 40.0, 39.5), 100.0, {}),
        DepthRow("body", error(None, 31.5, None), None, {"onnx": "the quantizer kept it float"}),
    ]
    console = Console(width=150)
    with console.capture() as capture:
        console.print(rendered(depth_table(shown, 8)))
    text = capture.get()
    assert "39.5" in text
    assert "-8.5" in text
    assert "██████████ 100 %" in text
    assert "none in onnx for conv2d: the quantizer kept it float" in text
    assert "first 8 images of the selection set" in text
