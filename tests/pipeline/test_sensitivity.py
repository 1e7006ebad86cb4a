"""The report of what a network can give: its figures, what a killed run leaves, its files and its words."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console
from torch import fx

from tests.support import TESTS
from tests.support.installed import skip_without
from tests.support.small_models import SIDE

pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install 'edgeslim[plot]'")

import edgeslim
from edgeslim.cli import main as cli
from edgeslim.compress.prune import channels
from edgeslim.compress.prune.labels import CANNOT, Labels
from edgeslim.errors import BadInput, MissingPackage, Refused
from edgeslim.pipeline.sensitivity import SensitivityReport, save
from edgeslim.progress import Progress
from edgeslim.report.plots import sensitivity_plot
from edgeslim.report.sensitivity import sensitivity_table
from edgeslim.report.tables import rendered
from edgeslim.resources import bundled

MODELS = TESTS / "support" / "small_models.py"
RESIDUAL, UNKNOWN = f"{MODELS}:residual", f"{MODELS}:scaled"


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> str:
    """160 labelled images, of which a quarter calibrates and a quarter selects."""
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(
        path,
        images=generator.integers(0, 256, (160, SIDE, SIDE, 3), np.uint8),
        labels=np.arange(160) % 4,
    )
    return str(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def report(images, store) -> SensitivityReport:
    skip_without("litert")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESLIM_CACHE", str(store))
        return edgeslim.sensitivity(RESIDUAL, device="raspberry-pi", data=images, trust_labels=True)


def test_every_group_has_its_own_width_and_every_legal_one_below(report):
    assert [group.group for group in report.groups] == ["stem.0", "first.0", "block add"]
    for group in report.groups[:2]:
        assert [one.width for one in group.widths] == [32, 24, 16, 8]
        own, *narrower = group.widths
        assert (own.divergence, own.lost_points, own.saved_s) == (pytest.approx(0, abs=1e-6), 0, 0)
        assert all(one.divergence > 0 for one in narrower)
        assert narrower[-1].divergence > narrower[0].divergence
        assert 0 < narrower[-1].saved_s < report.dense_int8_s


def test_a_block_is_there_or_gone(report):
    there, gone = report.groups[2].widths
    assert (there.width, there.lost_points, there.saved_s) == (1, 0, 0)
    assert (gone.width, gone.title) == (0, "gone")
    assert gone.divergence > 0
    assert 0 < gone.saved_s < report.dense_int8_s


def test_every_layer_has_its_loss_its_size_and_its_time_in_every_precision(report):
    assert [one.module for one in report.layers[::5]] == ["stem.0", "first.0", "second", "head.2"]
    assert [one.precision for one in report.layers] == ["int8", "dynamic", "w8", "fp16", "fp32"] * 4
    for int8, dynamic, w8, fp16, fp32 in zip(*(report.layers[place::5] for place in range(5)), strict=True):
        assert int8.module == dynamic.module == w8.module == fp16.module == fp32.module
        assert 15 < int8.sqnr_db < w8.sqnr_db < 90, "float activations lose nothing"
        assert 15 < dynamic.sqnr_db < w8.sqnr_db, "what is read is not rounded"
        assert (fp32.sqnr_db, fp32.lost_points, fp32.lost_points_at_most) == (None, 0, 0)
        assert w8.sqnr_db < fp16.sqnr_db, "11 bits are more than 8"
        assert int8.size_bytes == w8.size_bytes < fp16.size_bytes < fp32.size_bytes
        assert w8.seconds == fp16.seconds == fp32.seconds, "LiteRT makes floats of the weights as it loads a file"
        assert min(int8.seconds, dynamic.seconds, w8.seconds) > (-1 if int8.layer == "linear" else 0), int8
    assert all(one.lost_points <= one.lost_points_at_most for one in report.layers)
    stem = [one.size_bytes for one in report.layers[:5]]
    assert stem == [32 * 27 + 32 * 4 + 32 * 4] * 3 + [32 * 27 * 2 + 32 * 4, 32 * 27 * 4 + 32 * 4]


def test_it_says_what_it_was_found_on(report):
    assert (report.model, report.device, report.data) == ("small_models.py:residual", "raspberry-pi-4", "images.npz")
    assert (report.kind, report.images, report.synthetic) == ("accuracy", 40, False)
    assert (report.runtime, report.threads) == ("litert", 1)
    assert report.not_pruned is None


def test_a_second_call_finds_what_the_first_one_kept(report, images, store, monkeypatch):
    monkeypatch.setenv("EDGESLIM_CACHE", str(store))
    kept = sorted(file for file in store.rglob("*") if file.is_file())
    times = [file.stat().st_mtime_ns for file in kept]
    assert edgeslim.sensitivity(RESIDUAL, device="raspberry-pi", data=images, trust_labels=True) == report
    assert sorted(file for file in store.rglob("*") if file.is_file()) == kept
    assert [file.stat().st_mtime_ns for file in kept] == times


def test_what_was_finished_before_an_interrupt_is_not_computed_again(images, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path))

    def interrupt(progress: Progress) -> None:
        if progress.doing.startswith("studying") and progress.done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edgeslim.sensitivity(RESIDUAL, device="raspberry-pi", data=images, trust_labels=True, progress=interrupt)
    (first,) = (tmp_path / "curve").iterdir()
    written = first.stat().st_mtime_ns
    edgeslim.sensitivity(RESIDUAL, device="raspberry-pi", data=images, trust_labels=True)
    assert first.stat().st_mtime_ns == written, "it was computed anew"
    assert len(list((tmp_path / "curve").iterdir())) == 3


def cannot_be_told_apart(graph: fx.GraphModule) -> Labels:
    raise Refused(f"{CANNOT} `mul` reads no activation")


@pytest.fixture(scope="module")
def without_groups(images, store) -> SensitivityReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESLIM_CACHE", str(store))
        patch.setattr(channels, "labels_of", cannot_be_told_apart)
        return edgeslim.sensitivity(UNKNOWN, device="raspberry-pi", data="synthetic")


def test_a_network_whose_channels_cannot_be_told_apart_has_layers_and_a_reason(without_groups):
    assert without_groups.groups == ()
    assert without_groups.not_pruned == "its channels cannot be pruned: `mul` reads no activation"
    assert [one.module for one in without_groups.layers[::5]] == ["0.0", "4"]
    assert without_groups.runtime == "litert", "times of layers are there all the same"
    assert (without_groups.synthetic, without_groups.kind) == (True, "agreement")


def test_a_network_without_a_narrower_width_says_so(images, store, monkeypatch):
    monkeypatch.setenv("EDGESLIM_CACHE", str(store))
    found = edgeslim.sensitivity(f"{MODELS}:plain", device="raspberry-pi", data=images, trust_labels=True)
    assert found.not_pruned is not None
    assert found.not_pruned.endswith("no group of channels has a narrower width on a multiple of 8")
    assert len(found.layers) == 2 * 5


def test_a_device_that_cannot_have_the_model_is_refused_with_the_reason(tmp_path):
    profile = tmp_path / "other.yaml"
    profile.write_text((bundled("device_profiles") / "nvidia-cuda.yaml").read_text().replace("tensorrt", "openvino"))
    with pytest.raises(
        Refused, match="building for GPUs without TensorRT and for NPUs other than Ethos-U is not there"
    ):
        edgeslim.sensitivity(RESIDUAL, device=profile, data="synthetic")


# --- its files and its words


def test_the_file_holds_the_whole_report(report, tmp_path):
    file = save(report, tmp_path / "deeper" / "folder")
    held = json.loads(file.read_text())
    assert held["format"] == "edgeslim-sensitivity/3"
    assert [group["group"] for group in held["groups"]] == ["stem.0", "first.0", "block add"]
    assert held["groups"][1]["widths"][2] == vars(report.groups[1].widths[2])
    assert held["layers"] == [vars(one) for one in report.layers]
    assert [path.name for path in file.parent.iterdir()] == ["sensitivity.json"]


def test_a_folder_that_cannot_be_made_is_bad_input(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot write .*sensitivity\.json: .*--out"):
        save(report, tmp_path / "file" / "folder")
    with pytest.raises(BadInput, match=r"cannot write .*sensitivity\.png: .*--plot"):
        sensitivity_plot(report, tmp_path / "nosuch" / "sensitivity.png")


@pytest.mark.parametrize("which", ["report", "without_groups"])
def test_the_figure_is_a_picture_with_something_in_it_and_the_same_every_time(which, request, tmp_path):
    one, again = tmp_path / "one.png", tmp_path / "again.png"
    for file in (one, again):
        sensitivity_plot(request.getfixturevalue(which), file)
    with Image.open(one) as picture:
        assert min(picture.size) > 300
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 20
    assert one.read_bytes() == again.read_bytes()


def test_without_matplotlib_it_is_said_which_extra_brings_it(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackage, match=r"pip install 'edgeslim\[plot\]'"):
        sensitivity_plot(report, tmp_path / "sensitivity.png")


def shown(report: SensitivityReport) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(rendered(sensitivity_table(report, ["a file"])))
    return capture.get()


def test_the_table_has_a_line_for_every_width_and_layer_and_says_where_times_were_taken(report):
    text = shown(report)
    for group in report.groups:
        assert group.title in text
        for one in group.widths[1:]:
            assert f"{one.divergence:.4f}" in text
    assert all(f"{one.sqnr_db:.1f} dB" in text for one in report.layers if one.sqnr_db is not None)
    assert "the sum over the network; single operators in litert, 1 thread, measured on this machine" in text
    assert report.measured_on_device or "NOT on a raspberry-pi-4" in text
    assert text.rstrip().endswith("a file")


def test_the_table_without_groups_gives_the_reason_and_warns_of_synthetic_images(without_groups):
    text = " ".join(shown(without_groups).split())
    assert "no groups of channels: its channels cannot be pruned" in text
    assert "SYNTHETIC: they say nothing about accuracy" in text
    assert "measured in" not in text


def test_the_command_writes_both_files_and_prints_what_the_library_found(report, images, store, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESLIM_CACHE", str(store))
    monkeypatch.chdir(tmp_path)
    arguments = ["sensitivity", RESIDUAL, "--device", "raspberry-pi", "--data", images, "--trust-labels", "--json"]
    done = CliRunner().invoke(cli.commands, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["folder"] == "sensitivity/small-models-raspberry-pi-4"
    folder = tmp_path / told["folder"]
    assert sorted(path.name for path in folder.iterdir()) == ["sensitivity.json", "sensitivity.png"]
    assert json.loads((folder / "sensitivity.json").read_text())["groups"] == told["groups"]
    assert told["layers"] == [vars(one) for one in report.layers]
