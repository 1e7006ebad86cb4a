"""A summary says of every figure how it was obtained, and of what is not known that it is not."""

from dataclasses import replace

import pytest

from edgeslim.artifact.manifest import IntegerLayers, Manifest, OtherLayer, read_manifest
from edgeslim.pipeline.documents.summary import UNTIMED, summary, warnings_of
from edgeslim.pipeline.documents.times import DeviceTimes, Times
from tests.support.made_measurements import PLACE, measured
from tests.support.made_times import TIMES as ESTIMATED
from tests.support.packed_artifact import pack_small

FOUND = {
    "warnings": ("a layer stays float",),
    "costs": "onnx int8 loses 0.50 points: pruning 0.30 points, INT8 0.20 points",
    "in_float": ("in float in onnx int8: mean (1x)",),
}
LOCAL = replace(PLACE, target="local", name="AMD EPYC")
TIMES = Times((measured([0.001] * 9, "onnx int8", place=LOCAL),), DeviceTimes(), here=False, warnings=("it is slow",))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(pack_small(tmp_path_factory.mktemp("small"), **FOUND))


def test_a_file_has_its_size_score_and_interval_and_its_times_where_they_are_known(manifest: Manifest) -> None:
    table = summary(manifest, TIMES)
    figures = dict(zip(table.columns, table.rows[1], strict=True))
    size = manifest.models[0].bytes
    assert figures == {
        "format": "onnx", "precision": "int8", "size": f"{size} B" if size < 1000 else f"{size / 1000:.3g} KB",
        "top-1, 95 % interval": "90.00 % (88 to 92)", "agrees with fp32": "", "int8 layers": "1 of 1",
        "median latency*": "1 ms ±0 %", "peak RSS*": "47.7 MiB",
    }  # fmt: skip
    assert table.rows[0][-2:] == ("not measured", "not measured"), "a file that was not timed"
    assert table.bold == {1}, "the primary file does not stand out"


def test_it_says_where_times_were_taken_and_whether_that_is_the_device(manifest: Manifest) -> None:
    (where,) = [note for note in summary(manifest, TIMES).notes if "measured on" in note]
    assert where.startswith("* measured on the machine that built it (AMD EPYC; ")
    assert where.endswith("NOT on a raspberry-pi-4")
    there = summary(manifest, replace(TIMES, here=True)).notes[0]
    assert there.startswith("* measured on the machine that built it, a raspberry-pi-4 (AMD EPYC; ")


def test_without_times_it_has_no_column_for_them_and_says_why(manifest: Manifest) -> None:
    table = summary(manifest, None)
    assert not [name for name in table.columns if "*" in name]
    assert table.notes[0] == f"no times: {UNTIMED}"
    assert summary(manifest, None, "they were lost").notes[0] == "no times: they were lost"


def test_what_compression_cost_what_stays_float_and_every_warning_are_notes(manifest: Manifest) -> None:
    notes = summary(manifest, TIMES).notes
    assert {FOUND["costs"], *FOUND["in_float"], "warning: a layer stays float", "warning: it is slow"} <= set(notes)
    assert "primary: models/tiny_int8.onnx" in notes
    assert "SYNTHETIC: they say nothing about accuracy" in " ".join(notes)


def test_a_rejected_artifact_says_why(manifest: Manifest) -> None:
    rejected = manifest.model_copy(update={"status": "rejected", "reasons": ("it loses 3 points", "it is too large")})
    table = summary(rejected, None)
    assert table.title == "tiny-raspberry-pi-4 0.1.0: rejected"
    assert [note for note in table.notes if "rejected" in note] == [
        "rejected: it loses 3 points", "rejected: it is too large",
    ]  # fmt: skip


def test_an_artifact_of_before_warnings_were_kept_does_not_pass_for_one_without(manifest: Manifest) -> None:
    old = manifest.model_copy(update={"warnings": None, "not_judged": "not judged: 20 images"})
    assert [note for note in summary(old, None).notes if note.startswith("warning: ")] == [
        "warning: not judged: 20 images",
        "warning: what else the build warned of is not known: this artifact is of before that was kept",
    ]
    assert warnings_of(old, TIMES) == ("not judged: 20 images", "it is slow")


def test_estimates_name_the_device_as_a_person_does_where_the_manifest_knows_it(manifest: Manifest) -> None:
    shown = "onnx int8 80-120 ms (estimated, ncnn-fitted)"
    assert f"on a raspberry-pi-4, 1 thread: {shown}" in summary(manifest, ESTIMATED).notes
    titled = manifest.model_copy(
        update={"compatible": manifest.compatible.model_copy(update={"title": "Raspberry Pi 4 Model B"})}
    )
    assert f"on a Raspberry Pi 4 Model B, 1 thread: {shown}" in summary(titled, ESTIMATED).notes


def of_int8(manifest: Manifest, layers: IntegerLayers | None) -> tuple[str, list[str]]:
    """Return what a summary says of the layers of an INT8 file: in its row, and below."""
    models = [one.model_copy(update={"integer_layers": layers}) for one in manifest.models if one.precision == "int8"]
    found = summary(manifest.model_copy(update={"models": tuple(models)}), None)
    (row,) = found.rows
    notes = [note for note in found.notes if note.startswith("layers that are not int8: ")]
    return row[found.columns.index("int8 layers")], notes


def test_layers_that_are_not_int8_count_and_are_named_with_what_they_are_and_why(manifest: Manifest) -> None:
    others = (
        OtherLayer(layer="fc", precision="fp32", why="--keep-float"),
        OtherLayer(layer="stem.0", precision="w8", why="for --max-drop"),
        OtherLayer(layer="aux", precision="fp32", why="--keep-float"),
    )
    assert of_int8(manifest, IntegerLayers(planned=4, proven=3, proven_on="a machine", others=others)) == (
        "3 of 7",
        [
            "layers that are not int8: fc, aux kept in float (--keep-float); "
            "stem.0 in float with int8 weights (for --max-drop)"
        ],
    )


def test_where_every_layer_is_int8_none_is_named(manifest: Manifest) -> None:
    assert of_int8(manifest, IntegerLayers(planned=4, proven=4, proven_on="a machine")) == ("4 of 4", [])


def test_where_no_runtime_was_asked_the_layers_were_not_seen(manifest: Manifest) -> None:
    assert of_int8(manifest, None) == ("not seen", [])
