"""Recipes are data: read strictly, overridden by flags, and the same after a round trip."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeslim.backends.cpu import default_recipe
from edgeslim.compress import resolve_all, step_faults
from edgeslim.devices.profile import load_profile
from edgeslim.errors import BadInput
from edgeslim.formats import FORMATS
from edgeslim.recipe import Recipe, StepCall, load_recipe, with_settings, with_step_settings, with_training

PLAIN = st.one_of(
    st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=6)
)
STEPS = st.builds(
    StepCall,
    step=st.text(min_size=1, max_size=8),
    settings=st.dictionaries(st.text(max_size=6), st.one_of(PLAIN, st.lists(PLAIN, max_size=3)), max_size=3),
)
RECIPES = st.builds(
    Recipe,
    steps=st.lists(STEPS, max_size=3).map(tuple),
    formats=st.lists(st.sampled_from(list(FORMATS)), min_size=1, unique=True).map(tuple),
    max_drop_points=st.floats(0, 100),
    strict=st.booleans(),
    threads=st.integers(1, 64),
    seed=st.integers(0, 2**32),
)


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


@settings(max_examples=40, deadline=None)
@given(recipe=RECIPES)
def test_a_recipe_written_and_read_again_is_the_same(recipe, tmp_path_factory):
    assert load_recipe(written(tmp_path_factory.mktemp("recipe"), recipe.text())) == recipe


def test_a_recipe_says_only_what_it_changes(tmp_path):
    recipe = load_recipe(written(tmp_path, "steps: [{step: fold}]\nmax_drop_points: 2\n"))
    assert recipe == Recipe(steps=(StepCall(step="fold"),), max_drop_points=2.0)
    assert recipe.formats == ("onnx", "openvino", "tflite"), "without a word all formats are written"


@pytest.mark.parametrize(
    ("demands", "wanted"),
    [
        ("max_latency_s: 5 ms\nmax_size_bytes: 300 KB", (0.005, 300_000)),
        ("max_latency_s: 200us\nmax_size_bytes: 1.5 MiB", (0.0002, 1_572_864)),
        ("max_latency_s: 0.005\nmax_size_bytes: 300000", (0.005, 300_000)),
        ("max_latency_s: null", (None, None)),
    ],
)
def test_demands_are_read_in_the_units_that_people_write(demands, wanted, tmp_path):
    recipe = load_recipe(written(tmp_path, f"steps: []\n{demands}\n"))
    assert recipe.max_latency_s == (None if wanted[0] is None else pytest.approx(wanted[0]))
    assert recipe.max_size_bytes == wanted[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: []\nmax_latency_s: 5 MB\n", r"`max_latency_s`: `5 MB` is not a quantity of seconds; write"),
        ("steps: []\nmax_size_bytes: 0 KB\n", r"`max_size_bytes`: .*greater than 0"),
        ("steps: []\nmax_drop: 1\n", r"mine\.yaml:2: unknown key `max_drop`; did you mean `max_drop_points`\?"),
        ("steps: [{step: fold, setings: {}}]\n", r"\[steps#1\]: unknown key `setings`; did you mean `settings`\?"),
        ("formats: [onnx]\n", r"mine\.yaml: missing key `steps`"),
        ("steps: [{settings: {}}]\n", r"mine\.yaml:1 \[steps#1\]: missing key `step`"),
        ("steps: []\nformats: [onnx, tensorflow]\n", r"mine\.yaml.*formats#2.*onnx.*openvino.*tflite"),
        ("steps: []\nformats: []\n", r"mine\.yaml.*formats.*at least 1"),
        ("steps: []\nformats: [onnx, tflite, onnx]\n", r"mine\.yaml.*formats.*`onnx` stands twice"),
        ("steps: []\nmax_drop_points: 101\n", r"mine\.yaml.*max_drop_points.*less than or equal to 100"),
        ("steps: []\nmax_drop_points: -1\n", r"mine\.yaml.*max_drop_points.*greater than or equal to 0"),
        ("steps: []\nmax_drop_points: .nan\n", r"mine\.yaml.*max_drop_points"),
        ("steps: []\nthreads: 0\n", r"mine\.yaml.*threads.*greater than or equal to 1"),
        ("steps: []\nformat: edgeslim-recipe/9\n", r"mine\.yaml.*format.*edgeslim-recipe/1"),
        ("steps: []\nseed: 1\nseed: 2\n", r"mine\.yaml:3: key `seed` stands twice"),
        ("- fold\n", r"mine\.yaml: expected a mapping with the keys"),
        ("", r"mine\.yaml: expected a mapping with the keys"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_key(text, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        load_recipe(written(tmp_path, text))


def test_every_fault_of_a_recipe_is_told_at_once_those_of_its_steps_among_them(tmp_path):
    text = """\
steps:
  - {step: prume}
  - step: quantize
    settings:
      roundin: gptq
      bias_correction: maybe
  - step: prune
    settings: {importance: luck, allocation: fair}
  - {steps: fold}
max_drop: 1
threads: 0
"""
    with pytest.raises(BadInput) as refused:
        load_recipe(written(tmp_path, text), step_faults)
    assert str(refused.value).splitlines() == [
        "mine.yaml:2 [steps#1]: the recipe names a step `prume`; did you mean `prune`?; steps are distill, equalize, "
        "fold, legalize, mixed_precision, prune, quantize",
        "mine.yaml:5 [steps#2.settings]: the recipe's step `quantize` has no setting `roundin`; did you mean "
        "`rounding`?; settings are activation_range, rounding, bias_correction, symmetric, reduce_range, promote, "
        "keep_float, half_weights, weights_only, dynamic",
        "mine.yaml:6 [steps#2.settings]: the recipe's step `quantize`: `bias_correction`: Input should be a valid "
        "boolean",
        "mine.yaml:8 [steps#3]: prune: importance is `luck`; expected obs, l1, l2, taylor, bn_scale",
        "mine.yaml:8 [steps#3]: prune: allocation is `fair`; expected measured or uniform",
        "mine.yaml:9 [steps#4]: unknown key `steps`; did you mean `step`?",
        "mine.yaml:10: unknown key `max_drop`; did you mean `max_drop_points`?",
        "mine.yaml:11: `threads`: expected greater than or equal to 1; got `0`",
    ]


def test_every_fault_of_several_steps_is_told_where_no_file_holds_them():
    with pytest.raises(BadInput) as refused:
        resolve_all([StepCall(step="fuse"), StepCall(step="quantize", settings={"rounding": "up", "keep": []})])
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("the recipe names a step `fuse`")
    assert lines[1].startswith("the recipe's step `quantize` has no setting `keep`; did you mean `keep_float`?")
    assert lines[2] == "quantize: rounding is `up`; expected nearest or gptq"


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"gone\.yaml: cannot be read"):
        load_recipe(tmp_path / "gone.yaml")


def test_a_cpu_device_gets_pruning_int8_and_a_gate_of_one_point():
    recipe = default_recipe(load_profile("raspberry-pi"))
    assert [call.step for call in recipe.steps] == ["prune", "fold", "quantize"]
    assert recipe.max_drop_points == 1.0


def test_settings_from_flags_override_and_leave_the_rest_and_the_recipe_itself():
    recipe = Recipe(steps=(StepCall(step="fold"),), threads=2)
    changed = with_settings(recipe, max_drop_points=0.5, formats=("tflite",))
    assert (changed.max_drop_points, changed.formats, changed.threads) == (0.5, ("tflite",), 2)
    assert (recipe.max_drop_points, recipe.formats) == (1.0, tuple(FORMATS)), "the recipe it was given changed"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"max_drop_points": 200}, "`max_drop_points`.*less than or equal to 100"),
        ({"formats": ("onx",)}, "formats#1"),
        ({"tread": 1}, "unknown key `tread`; did you mean `threads`"),
    ],
)
def test_a_flag_that_does_not_fit_is_refused_by_name(wanted, message):
    with pytest.raises(BadInput, match=message):
        with_settings(Recipe(steps=()), **wanted)


def test_settings_of_a_step_are_added_to_those_it_has():
    recipe = Recipe(steps=(StepCall(step="fold"), StepCall(step="quantize", settings={"bias_correction": False})))
    changed = with_step_settings(recipe, "quantize", keep_float=("stem",))
    assert changed.steps[1].settings == {"bias_correction": False, "keep_float": ("stem",)}
    assert changed.steps[0] == recipe.steps[0], "another step changed"
    assert recipe.steps[1].settings == {"bias_correction": False}, "the recipe it was given changed"


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        (("prune", "fold", "quantize"), ("prune", "distill", "fold", "quantize")),
        (("fold", "legalize", "quantize"), ("fold", "legalize", "distill", "quantize")),
        (("prune", "fold", "legalize"), ("prune", "fold", "legalize", "distill")),
        (("prune", "fold", "distill"), ("prune", "fold", "distill")),
    ],
)
def test_training_comes_behind_what_takes_accuracy(steps, wanted):
    recipe = Recipe(steps=tuple(StepCall(step=name) for name in steps))
    changed = with_training(recipe, 20.0)
    assert tuple(call.step for call in changed.steps) == wanted
    assert next(call for call in changed.steps if call.step == "distill").settings == {"seconds": 20.0}
    assert with_training(recipe, None) is recipe
    untrained = tuple(name for name in steps if name != "distill")
    assert tuple(call.step for call in with_training(changed, 0.0).steps) == untrained


def test_a_time_to_train_wins_over_the_steps_of_an_earlier_build():
    done = StepCall(step="distill", settings={"seconds": 20.0, "steps": 155, "temperature": 3.0})
    changed = with_training(Recipe(steps=(StepCall(step="prune"), done)), 60.0)
    assert changed.steps[1].settings == {"seconds": 60.0, "steps": None, "temperature": 3.0}


def test_training_where_nothing_is_taken_is_refused():
    with pytest.raises(BadInput, match="the recipe has no step `prune` or `legalize`"):
        with_training(Recipe(steps=(StepCall(step="fold"), StepCall(step="quantize"))), 20.0)


def test_settings_of_a_step_that_is_not_there_are_refused():
    with pytest.raises(BadInput, match="the recipe has no step `quantize` to set keep_float on"):
        with_step_settings(Recipe(steps=(StepCall(step="fold"),)), "quantize", keep_float=("stem",))
