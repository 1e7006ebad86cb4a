"""Which file becomes primary, and when a result is not good enough."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from edgeslim.artifact.manifest import ErrorByDepth, LayerError
from edgeslim.backends import Delivery, beyond_budget
from edgeslim.backends.cpu import choose_primary, default_recipe, slower_than_float
from edgeslim.devices.profile import load_profile
from edgeslim.export.evaluation.ledger import Row
from edgeslim.export.evaluation.run import Judged
from edgeslim.export.job import Job
from edgeslim.measure.measurement import Measurement
from edgeslim.model.model import Model, Stages
from edgeslim.model.numerics import LayerNumerics, Numerics
from edgeslim.pipeline.documents.times import DeviceTimes, Times
from edgeslim.pipeline.gates import Costs, advice, below_demand, not_judged
from edgeslim.pipeline.result import Built, Provenance
from edgeslim.recipe import Recipe, with_pruning, with_settings, with_step_settings, with_training
from edgeslim.tasks import classification
from edgeslim.tasks.images import Data, ImageSet
from edgeslim.tasks.preprocessing import Preprocessing
from edgeslim.work_folders import work_folder
from tests.support.judged_files import RECIPE, judged
from tests.support.made_measurements import measured

HOST, PI = load_profile("x86-64-host"), load_profile("raspberry-pi")


def timed(one: Judged, milliseconds: float) -> Measurement:
    medians_s = [milliseconds / 1e3 * wobble for wobble in (0.999, 1.0, 1.001, 1.0, 1.0)]
    precision = one.job.precision
    return measured(
        medians_s, one.label, runtime=one.runtime, precision_requested=precision, precision_actual=precision
    )


def choice(profile, **milliseconds: float) -> tuple[str | None, list[str], list[str]]:
    """The label of the primary file, the warnings, and those that follow from times."""
    files = [judged(*label.split("_")) for label in milliseconds]
    times = [timed(one, ms) for one, ms in zip(files, milliseconds.values(), strict=True)]
    with work_folder() as folder:  # for a plan, which is looked into where this machine's sums saturate
        plan = folder / "numerics.json"
        Numerics({}, LAYERS).save(plan)
        files = [replace(one, job=replace(one.job, numerics=plan)) for one in files]
        primary, warnings = choose_primary(files, times, profile)
    return primary.label if primary else None, warnings, slower_than_float(files, times, profile)


def test_on_this_machine_the_fastest_file_becomes_primary():
    assert choice(HOST, openvino_fp32=4.0, openvino_int8=2.0, tflite_fp32=4.0, tflite_int8=1.5)[0] == "tflite int8"


def test_on_this_machine_an_int8_file_that_loses_to_its_float_twin_is_not_primary_and_is_named():
    primary, warnings, doubts = choice(HOST, onnx_fp32=7.0, onnx_int8=8.2)
    assert primary == "onnx fp32"
    assert warnings == [], "what follows from times stands among what is the same in every run"
    (doubt,) = doubts
    assert "onnx int8 is slower than onnx fp32 on x86-64-host" in doubt


def test_a_difference_within_the_margin_changes_nothing():
    assert choice(HOST, openvino_fp32=4.0, openvino_int8=2.0, tflite_int8=1.98, tflite_fp32=4.0)[0] == "openvino int8"


def test_for_another_device_times_taken_here_only_warn_and_the_profile_decides():
    primary, _, (doubt,) = choice(PI, tflite_fp32=7.0, tflite_int8=8.0, onnx_fp32=7.0, onnx_int8=1.0)
    assert primary == "tflite int8", "a time of another machine chose the file"
    assert "slower than tflite fp32 on the machine that built it (no raspberry-pi-4)" in doubt


def test_what_is_known_to_fail_on_the_device_is_never_primary():
    primary, warnings, _ = choice(PI, openvino_int8=1.0, openvino_fp32=2.0)
    assert primary == "openvino fp32"
    assert "object is not initialized" in warnings[0]


def images(count: int, *, labelled: bool = True) -> ImageSet:
    return ImageSet(
        np.zeros((count, 8, 8, 1), np.uint8),
        np.zeros(count, np.int64) if labelled else None,
        Preprocessing(8, 8, 1, 8, (0.5,), (0.5,), "GRAY"),
    )


def data(*, synthetic: bool = False, labelled: bool = True) -> Data:
    few = images(4, labelled=labelled)
    return Data("images", synthetic, few, few, few)


@pytest.mark.parametrize(
    ("points", "told"),
    [
        (1.0, "not judged: 4 images, 100 needed for 1 points"),
        (0.3, "not judged: 4 images, 334 needed for 0.3 points"),
        (25.0, None),
        (0.0, None),
    ],
)
def test_fewer_images_than_can_tell_the_allowed_loss_judge_nothing(points: float, told: str | None):
    recipe = RECIPE.model_copy(update={"max_drop_points": points})
    assert not_judged(recipe, data(), classification) == told
    assert not_judged(recipe, data(synthetic=True), classification) is None, "synthetic images never judge"


def test_what_is_not_judged_rejects_nothing_unless_the_build_is_strict():
    files = [judged("onnx", "fp32", 90.0), judged("onnx", "int8", 50.0)]
    assert below_demand(files, RECIPE, data(), "not judged: 4 images") == []
    strict = RECIPE.model_copy(update={"strict": True})
    assert below_demand(files, strict, data(), "not judged: 4 images") == ["not judged: 4 images (--strict)"]


@pytest.mark.parametrize(("int8_pct", "reasons"), [(89.0, 0), (88.99, 1)])
def test_the_accuracy_gate_allows_exactly_what_was_asked_for(int8_pct: float, reasons: int):
    files = [judged("onnx", "fp32", 90.0), judged("onnx", "int8", int8_pct)]
    assert len(below_demand(files, RECIPE, data())) == reasons


def test_without_labels_the_gate_asks_for_agreement():
    files = [judged("onnx", "fp32", 100.0), judged("onnx", "int8", 98.5)]
    assert "loses 1.50 points" in below_demand(files, RECIPE, data(labelled=False))[0]


def test_synthetic_images_decide_nothing_about_accuracy():
    files = [judged("onnx", "fp32", 100.0), judged("onnx", "int8", 10.0)]
    assert below_demand(files, RECIPE, data(synthetic=True, labelled=False)) == []


def test_a_planned_layer_that_was_not_proven_integer_is_named():
    files = [judged("onnx", "fp32"), judged("onnx", "int8", proven=())]
    assert below_demand(files, RECIPE, data()) == [
        "onnx int8: onnxruntime ran 0 of 1 planned layers on integers; not: conv2d"
    ]


def test_strict_asks_for_a_reason_wherever_a_file_departs_from_the_plan():
    row = Row("edge", "relu", "uint8", 0.1, 0, "Conv", "uint8", 0.2, 0, "differs", None)
    files = [judged("onnx", "fp32"), judged("onnx", "int8", rows=(row,))]
    assert below_demand(files, RECIPE, data()) == []
    strict = RECIPE.model_copy(update={"strict": True})
    assert "at 1 places (--strict): relu" in below_demand(files, strict, data())[0]


def test_the_budget_that_binds_is_named_with_both_figures(tmp_path):
    one = judged("tflite", "int8", job=Job("tflite", "int8", Path("in"), tmp_path / "model.tflite", Path("probe")))
    one.job.target.write_bytes(bytes(2000))
    both = RECIPE.model_copy(update={"max_latency_s": 0.002, "max_size_bytes": 1000})
    assert beyond_budget(one, both, [timed(one, 3.0)]) == [
        "tflite int8 takes 2 KB, 1 KB are allowed (--max-size)",
        "tflite int8 takes 3 ms an image, 2 ms are allowed (--max-latency)",
    ]
    wide = RECIPE.model_copy(update={"max_latency_s": 0.004, "max_size_bytes": 2000})
    assert beyond_budget(one, wide, [timed(one, 3.0)]) == []
    assert beyond_budget(None, both, []) == [], "without a primary file there is nothing to hold against a budget"


WHOLE = default_recipe(PI)  # as a device's default recipe
MANY = Data("images", False, images(512), images(2000), images(1000))
FEW_CALIBRATE = Data("images", False, images(40), images(2000), images(1000))
FEW_SELECT = Data("images", False, images(512), images(20), images(1000))
LAYERS = {
    name: LayerNumerics(f"{module}.weight", "int8", "x", "y", (0.1,)) for name, module in (("a", "stem"), ("b", "head"))
}
DEPTH = ErrorByDepth(
    images=8,
    layers=tuple(
        LayerError(name=name, layer_db=db, cumulative_db=db, exported_db={}) for name, db in (("a", 35.0), ("b", 12.34))
    ),
)


def model(*history: str, layers=LAYERS) -> Model:
    preprocessing = images(1).preprocessing
    return Model(
        "net.py:make", "random", nn.Identity(), preprocessing, None, history=history, numerics=Numerics({}, layers)
    )


def built(files: list[Judged], recipe: Recipe = WHOLE, *history: str, layers=LAYERS, **changes) -> Built:
    """Return what a build found, with the reasons that the gates find."""
    final = model(*history, layers=layers)
    facts = {
        "stages": Stages(final, final, final, final), "data": MANY, "recipe": recipe, "profile": PI, "judged": files,
        "delivery": Delivery(None, on_cpu=True), "times": Times((), DeviceTimes(), here=False), "error_by_depth": DEPTH,
        "operator_times": None, "not_judged": None, "provenance": Provenance(None, None), "warnings": (),
        "in_float": (), "costs": None,
    }  # fmt: skip
    facts |= changes
    reasons = below_demand(files, recipe, facts["data"], facts["not_judged"])
    return Built(**{"reasons": [*reasons, *facts["delivery"].reasons], **facts})


def losing(*int8_pct: float) -> list[Judged]:
    pairs = zip(("onnx", "openvino", "tflite"), int8_pct, strict=False)
    return [one for name, pct in pairs for one in (judged(name, "fp32", 90.0), judged(name, "int8", pct))]


SENSITIVE = (
    "--keep-float head: as INT8 this layer adds the most noise (12.3 dB alone); `edgeslim sensitivity` says what each "
    "costs"
)


def test_what_is_accepted_needs_no_advice():
    assert advice(built(losing(89.5)), None) == ()


def test_a_file_that_loses_too_much_by_int8_is_advised_once_for_all_formats_and_not_on_pruning():
    made = built(losing(88.75, 88.73, 88.75))
    assert len(made.reasons) == 3
    assert advice(made, None) == ("--max-drop 1.27 would take it", SENSITIVE)


@pytest.mark.parametrize(("fp32_pct", "int8_pct", "points"), [(97.3, 96.2, 1.1), (90.0, 88.745, 1.26), (90.0, 88.0, 2)])
def test_the_drop_that_is_advised_is_the_least_that_takes_it(fp32_pct: float, int8_pct: float, points: float):
    files = [judged("onnx", "fp32", fp32_pct), judged("onnx", "int8", int8_pct)]
    told = advice(built(files), None)[0]
    assert told == f"--max-drop {points:g} would take it"
    advised = float(told.split()[1])
    for drop, accepted in ((advised, True), (advised - 0.01, False)):
        assert (below_demand(files, with_settings(WHOLE, max_drop_points=drop), MANY) == []) == accepted


def test_a_broken_network_is_not_excused_by_a_wide_demand():
    assert advice(built(losing(20.0)), None) == (SENSITIVE,)


def test_where_the_demand_chose_float_layers_a_wider_one_is_said_to_make_other_files():
    layers = {**LAYERS, "c": LayerNumerics("body.weight", "fp32", "x", "y", (), "for --max-drop")}
    assert advice(built(losing(88.0), layers=layers), None)[0] == (
        "--max-drop 2 would take these files; a build with it keeps fewer layers in float, and may lose more"
    )


def test_a_second_reason_is_not_taken_back_by_a_wider_demand():
    made = built(losing(88.0), delivery=Delivery(None, on_cpu=True, reasons=("something else",)))
    assert advice(made, None)[0] == "it takes at least --max-drop 2"


PRUNED = "prune (obs, MACs): 10 to 5 parameters"
TRAIN = "train: --train-time 2min"


@pytest.mark.parametrize(
    ("by_pruning", "by_int8", "helps"),
    [
        (2.9, 0.1, ["pruning"]),
        (0.1, 2.9, ["int8"]),
        (1.5, 1.5, ["pruning", "int8"]),
        (0.8, 0.8, ["pruning", "int8"]),
        (3.1, -0.1, ["pruning"]),
    ],
)
def test_of_pruning_and_int8_what_puts_a_file_beyond_the_demand_is_advised_on(
    by_pruning: float, by_int8: float, helps: list[str]
):
    files = losing(90.0 - by_pruning - by_int8)
    told = advice(built(files, with_pruning(WHOLE, "macs=0.3"), PRUNED), Costs(files[1], by_pruning, by_int8))
    milder = f"keep more than --prune macs=0.3 does: pruning costs {by_pruning:.2f} points"
    helping = {"pruning": [milder, TRAIN], "int8": [SENSITIVE]}
    assert list(told[1:]) == [words for one in helps for words in helping[one]]


def test_where_training_gave_back_too_little_more_of_it_is_advised():
    recipe = with_training(with_pruning(WHOLE, "macs=0.3"), 10.0)
    files = losing(87.0)
    lost = Costs(files[1], 3.0, 0.0, trained=True)
    assert advice(built(files, recipe, PRUNED), lost)[2] == "train longer, or on more images: --train-time, --train"
    assert "pruning and training 3.00 points, INT8 0.00 points" in str(lost)


def test_where_nobody_could_tell_what_pruning_costs_both_are_advised_without_a_figure():
    told = advice(built(losing(88.0), with_pruning(WHOLE, "latency=0.5"), PRUNED), None)
    assert told[1:] == ("keep more than --prune latency=0.5 does", TRAIN, SENSITIVE)


def test_an_amount_that_was_named_and_pruned_nothing_is_not_advised_on():
    told = advice(built(losing(88.0), with_pruning(WHOLE, "latency=0.5"), "prune: nothing"), None)
    assert told[1:] == (SENSITIVE,)


def test_few_images_that_calibrate_or_select_are_told_with_how_many_would_do():
    told = advice(built(losing(88.0), data=FEW_CALIBRATE), None)
    assert told[2:] == ("more images that calibrate (--calibration, or more of --data): 40 do, up to 512 are used",)
    told = advice(built(losing(88.0), data=FEW_SELECT), None)
    assert told[2:] == (
        "100 images that select (--selection, or more of --data): the build then keeps the layers in float that cost "
        "too much, which 20 cannot tell",
    )
    unsought = with_step_settings(WHOLE, "quantize", promote=False)
    assert len(advice(built(losing(88.0), unsought, data=FEW_SELECT), None)) == 2, "no layer is sought"


def test_a_device_that_runs_no_float_is_not_advised_to_keep_it():
    assert advice(built(losing(88.0), delivery=Delivery(None)), None) == ("--max-drop 2 would take it",)


def test_a_layer_whose_name_is_part_of_anothers_is_named_alone():
    layers = {**LAYERS, "c": LayerNumerics("head.0.weight", "int8", "x", "y", (0.1,))}
    assert advice(built(losing(88.0), layers=layers), None)[1].startswith("--keep-float '^head$': ")


def test_images_that_judge_nothing_or_rows_without_a_reason_are_advised_on_where_strictness_rejects():
    strict = with_settings(WHOLE, strict=True)
    row = Row("edge", "relu", "uint8", 0.1, 0, "Conv", "uint8", 0.2, 0, "differs", None)
    files = [judged("onnx", "fp32", 90.0), judged("onnx", "int8", 50.0, rows=(row,))]
    departs = "`edgeslim inspect` shows where the files depart from the plan; without --strict that is no fault"
    judges = "more images that judge (--evaluation, or more of --data), or no --strict"
    assert advice(built(files, strict, not_judged="not judged: 4 images"), None) == (judges, departs)
    assert advice(built([files[0], judged("onnx", "int8", rows=(row,))], strict), None) == (departs,)


def large(tmp_path: Path, recipe: Recipe, **changes) -> Built:
    """Return a build whose INT8 file of 2,001 bytes is the primary one and may take 1,000."""
    one = judged("tflite", "int8", job=Job("tflite", "int8", Path("in"), tmp_path / "model.tflite", Path("probe")))
    one.job.target.write_bytes(bytes(2001))
    demanding = with_settings(recipe, max_size_bytes=1000)
    delivery = Delivery(one.path, on_cpu=True, reasons=tuple(beyond_budget(one, demanding, [])))
    return built([judged("tflite", "fp32"), one], demanding, delivery=delivery, **changes)


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (WHOLE, "a larger --max-drop lets pruning take more"),
        (with_pruning(WHOLE, "macs=0.9"), "keep less than --prune macs=0.9 does"),
        (with_pruning(WHOLE, False), "without --no-prune the build seeks a network that is small and fast enough"),
    ],
)
def test_a_file_that_is_too_large_is_advised_what_would_take_it_and_how_pruning_helps(
    tmp_path: Path, recipe: Recipe, told: str
):
    made = large(tmp_path, recipe)
    assert len(made.reasons) == 1
    assert advice(made, None) == ("--max-size 3KB would take it", told)
    assert len(advice(large(tmp_path, recipe, data=data(synthetic=True)), None)) == 1, "none is chosen by such images"


def test_a_file_that_is_too_slow_is_advised_how_pruning_helps(tmp_path: Path):
    recipe = with_settings(WHOLE, max_latency_s=0.002)
    one = judged("tflite", "int8")
    times = [timed(one, 3.0)]
    slow = Delivery(one.path, on_cpu=True, measurements=tuple(times), reasons=("too slow",))
    assert advice(built([one], recipe, delivery=slow, profile=HOST), None) == (
        "a larger --max-drop lets pruning take more",
    )
    assert advice(built([one], recipe, delivery=slow), None) == (), "a time of another machine says nothing"
