"""How long builds took here is noted by what they had to do, and found again by the next one."""

from dataclasses import replace
from pathlib import Path

from edgeslim.backends import backend_of
from edgeslim.devices.profile import load_profile
from edgeslim.kept import KINDS, kept
from edgeslim.pipeline.preflight.past_builds import FOLDER, Work, most_alike, note_build, past_builds, work_of
from edgeslim.recipe import Recipe, with_settings
from edgeslim.tasks.images import synthetic_data
from tests.support.small_models import COLOR, model_of, plain

PI = load_profile("raspberry-pi")
RECIPE: Recipe = backend_of(PI).default_recipe(PI)
WORK = Work("net", "a0", "raspberry-pi-4", "b1", ("fold",), ("onnx",), 1000, (32, 32, 64))


def test_what_was_noted_is_found_and_the_last_of_the_same_work_counts(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert past_builds(store) == []
    note_build(store, WORK, 10.0)
    note_build(store, replace(WORK, weights_sha256="c2"), 20.0)
    note_build(store, WORK, 12.5)
    assert sorted(one.seconds for one in past_builds(store)) == [12.5, 20.0]
    assert [one.work for one in past_builds(store) if one.seconds == 12.5] == [WORK]


def test_notes_that_are_damaged_or_not_ours_are_none(tmp_path: Path) -> None:
    note_build(tmp_path, WORK, 10.0)
    (note,) = (tmp_path / FOLDER).iterdir()
    (tmp_path / FOLDER / "linked.json").symlink_to(note)
    (tmp_path / FOLDER / "half.json").write_bytes(note.read_bytes()[:40])
    (tmp_path / FOLDER / "other.json").write_text('{"seconds": 3}')
    assert len(past_builds(tmp_path)) == 1
    assert [(one.kind, one.what) for one in kept(tmp_path)] == [(FOLDER, KINDS[FOLDER])]


def test_a_store_that_takes_nothing_ends_no_build(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    note_build(tmp_path / "store", WORK, 10.0)
    assert past_builds(tmp_path / "store") == []


def test_the_work_of_a_build_differs_by_weights_recipe_and_images() -> None:
    model, data = model_of(plain()), synthetic_data(COLOR, 0)
    work = work_of(model, PI, RECIPE, data)
    assert (work.steps, work.formats) == (("prune", "fold", "quantize"), ("onnx", "openvino", "tflite"))
    assert work.images == (48, 48, 48)
    assert work == work_of(model, PI, RECIPE, data), "the same work is not the same"
    assert work != work_of(model_of(plain()), PI, RECIPE, data), "other weights are the same work"
    assert work != work_of(model, PI, with_settings(RECIPE, max_drop_points=2.0), data)
    fewer = replace(data, evaluation=data.evaluation.part(slice(0, 8)))
    assert work != work_of(model, PI, RECIPE, fewer)


def test_the_build_most_alike_has_the_same_steps_and_ran_most_nearly_as_much(tmp_path: Path) -> None:
    others = {
        "small": replace(WORK, source="small", macs=10),
        "near": replace(WORK, source="near", macs=400),
        "large": replace(WORK, source="large", macs=90_000),
        "pruned": replace(WORK, source="pruned", steps=("prune", "fold")),
        "tflite": replace(WORK, source="tflite", formats=("tflite",)),
    }
    for number, one in enumerate(others.values()):
        note_build(tmp_path, one, float(number))
    found = most_alike(WORK, past_builds(tmp_path))
    assert found is not None
    assert found.work.source == "near"
    assert most_alike(replace(WORK, steps=("equalize",)), past_builds(tmp_path)) is None
