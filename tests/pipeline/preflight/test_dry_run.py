"""A dry run names every setting that a build would have, in a recipe that means the same."""

from pathlib import Path

import pytest
import yaml

from edgeslim.backends import backend_of
from edgeslim.compress import foreseen, known_steps, resolve_all, technique
from edgeslim.devices.profile import all_profiles, load_profile
from edgeslim.formats import FORMATS
from edgeslim.pipeline.build import place_of
from edgeslim.pipeline.preflight.dry_run import DryRun, dry_run
from edgeslim.recipe import Recipe, StepCall, load_recipe, with_pruning, with_settings, with_step_settings
from edgeslim.resources import bundled
from tests.support.in_process import PI, run

AMOUNTS = ("keep_channels", "keep_parameters", "keep_macs", "keep_latency")


def default_of(device: str) -> Recipe:
    profile = load_profile(device)
    recipe: Recipe = backend_of(profile).default_recipe(profile)
    return recipe


def dry(recipe: Recipe, device: str = "raspberry-pi", out: Path = Path("out")) -> DryRun:
    return dry_run(recipe, load_profile(device), None, out)


def lines_of(found: DryRun, setting: str) -> list[str]:
    return [line.strip() for line in found.text().splitlines() if line.strip().startswith(f"{setting}:")]


@pytest.mark.parametrize("device", [one.name for one in all_profiles()])
def test_what_is_printed_is_a_recipe_that_means_the_same(tmp_path: Path, device: str) -> None:
    recipe, profile = default_of(device), load_profile(device)
    runtimes = [FORMATS[name].runtime for name in recipe.formats]
    (tmp_path / "recipe.yaml").write_text(dry(recipe, device).text())
    again = load_recipe(tmp_path / "recipe.yaml")
    assert dry(again, device).text() == dry(recipe, device).text()
    assert again.model_copy(update={"steps": ()}) == recipe.model_copy(update={"steps": ()})
    for before, after in zip(recipe.steps, again.steps, strict=True):
        ((module, settings),) = resolve_all([after])
        wanted = resolve_all([before])[0]
        if hasattr(module, "foresee"):
            wanted = (module, module.foresee(wanted[1], profile, runtimes)[0])
        assert (module, settings) == wanted


@pytest.mark.parametrize("step", known_steps())
def test_every_setting_of_a_step_is_named(step: str) -> None:
    device = "jetson-orin-nano" if step == "mixed_precision" else "nxp-imx93"
    found, left = foreseen(StepCall(step=step), load_profile(device), ["litert"])
    assert list(found.settings) == list(technique(step).Settings.__dataclass_fields__)
    assert set(left) <= set(found.settings)


def test_how_much_is_pruned_is_chosen_by_the_build_where_nobody_said_it() -> None:
    chosen = dry(default_of("raspberry-pi"))
    assert [lines_of(chosen, name) for name in AMOUNTS] == [
        [f"{name}: null  # chosen by the build"] for name in AMOUNTS
    ]
    told = dry(with_pruning(default_of("raspberry-pi"), "macs=0.5"))
    assert [lines_of(told, name) for name in AMOUNTS] == [
        ["keep_channels: null"],
        ["keep_parameters: null"],
        ["keep_macs: 0.5"],
        ["keep_latency: null"],
    ]


def test_the_device_decides_the_bits_of_a_weight(tmp_path: Path) -> None:
    there = (bundled("device_profiles") / "intel-n100.yaml").read_text()
    without = tmp_path / "old-pc.yaml"
    without.write_text(there.replace("name: intel-n100", "name: old-pc").replace("[avx2, avx_vnni]", "[avx2]"))
    recipe = default_of("intel-n100")
    assert lines_of(dry(recipe, str(without)), "reduce_range") == ["reduce_range: true"]
    assert lines_of(dry(recipe, "intel-n100"), "reduce_range") == ["reduce_range: false"]
    tflite = with_settings(recipe, formats=("tflite",))
    assert lines_of(dry(tflite, str(without)), "reduce_range") == ["reduce_range: false"], "OpenVINO alone saturates"
    asked = with_step_settings(tflite, "quantize", reduce_range=True)
    assert lines_of(dry(asked), "reduce_range") == ["reduce_range: true"]


def test_a_setting_of_several_lines_keeps_its_words_and_its_meaning() -> None:
    recipe = with_step_settings(default_of("nxp-imx93"), "legalize", rewrite=["auto", "relu6=yes"])
    found = dry(recipe, "nxp-imx93")
    assert lines_of(found, "rewrite") == ["rewrite:  # auto: `edgeslim check` says what is rewritten"]
    assert yaml.safe_load(found.text())["steps"][1]["settings"] == {"rewrite": ["auto", "relu6=yes"]}
    without = with_step_settings(recipe, "legalize", rewrite=["none"])
    assert lines_of(dry(without, "nxp-imx93"), "rewrite") == ["rewrite:"]


def test_a_path_of_two_lines_ends_no_comment() -> None:
    found = dry(default_of("raspberry-pi"), out=Path("two\nlines: yes"))
    assert "# artifact: two\\nlines: yes\n" in found.text()
    assert "two" not in yaml.safe_load(found.text())


def test_where_the_artifact_would_lie_is_said_and_nothing_is_made(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(monkeypatch, capsys, "build", *PI, "--dry-run")
    assert code == 0
    assert out.splitlines()[1:4] == [
        "# a build of default for raspberry-pi-4 (Raspberry Pi 4 Model B) would do this",
        "# artifact: artifacts/default-raspberry-pi-4",
        "# archive: artifacts/default-raspberry-pi-4.tar.gz",
    ]
    assert not list(tmp_path.iterdir())
    assert place_of(None, "nets/small.py:make", load_profile("raspberry-pi")) == Path("artifacts/small-raspberry-pi-4")
