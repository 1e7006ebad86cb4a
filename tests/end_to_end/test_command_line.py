"""What a person meets: refusals, interrupts and failures, each with its message, its exit code and nothing lost."""

import contextlib
import getpass
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeslim.recipe import RECIPE_SCHEMA
from tests.support.builds import NET, edgeslim, running
from tests.support.command_line import HEEDING_CTRL_C
from tests.support.in_process import PI, run
from tests.support.processes import alive


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("build", "--device", "rasberry-pi"), 2, "did you mean `raspberry-pi`"),
        (("devices", "nosuch"), 2, "edgeslim devices"),
        (("devices", "--all"), 2, "--all says everything about one device: name it"),
        (("devices", "--validate", "tests/invalid_profiles/unknown-key.yaml"), 2, "unknown key"),
        (("build", "--device", "nxp-imx93", "--format", "onnx"), 2, "the recipe writes onnx (--format tflite)"),
        (("build", "--device", "jetson-orin-nano", "--format", "tflite"), 2, "builds its engines from ONNX; the"),
        (("build", "--device", "orin-nano", "--max-latency", "3ms"), 2, "--max-latency"),
        (("build", "model.onnx", *PI), 2, "is a file in the ONNX format; edgeslim takes PyTorch modules"),
        (("build", "nosuch.py:make", *PI), 2, "nosuch.py does not exist"),
        (("build", "torchvision:resnet50", *PI), 2, "needs --weights"),
        (("build", *PI, "--recipe", "nosuch.yaml"), 2, "nosuch.yaml: cannot be read"),
        (("build", *PI, "--format", "coreml"), 2, "expected 'onnx', 'openvino' or 'tflite'"),
        (("build", *PI, "--keep-float", "("), 2, "is no regular expression"),
        (("build", *PI, "--weights-only", "("), 2, "weights_only `(` is no regular expression"),
        (("build", *PI, "--max-drop", "-1"), 2, "max_drop_points"),
        (("build", *PI, "--prune", "macs=0"), 2, "keep_macs is 0; expected a share above 0 and below 1"),
        (("build", *PI, "--prune", "latency=1"), 2, "keep_latency is 1; expected a share above 0 and below 1"),
        (("build", *PI, "--prune", "width=0.5"), 2, "expected auto, or UNIT=SHARE, a share to keep, UNIT one of macs"),
        (("build", *PI, "--prune", "macs=half"), 2, "expected auto, or UNIT=SHARE"),
        (("build", *PI, "--prune", "macs=0.5", "--no-prune"), 2, "--prune and --no-prune contradict each other"),
        (("build", *PI, "--max-latency", "30"), 2, "`30` is not a quantity of seconds"),
        (("build", *PI, "--max-latency", "30ms"), 2, "can be judged on a raspberry-pi-4 only, which this machine is"),
        (("build", *PI, "--max-size", "5"), 2, "`5` is not a quantity of bytes"),
        (("build", *PI, "--weights", "nosuch.safetensors"), 2, "nosuch.safetensors do not exist"),
        (("build", *PI, "--data", "nosuch"), 2, "neither a folder of images nor an .npz"),
        (("build", NET, *PI, "--weights", "random", "--out", "nosuch/deeper"), 2, "parent folder nosuch is missing"),
        (("verify", "nosuch"), 2, "no such artifact"),
        (("bench", "nosuch", "--on", "ssh://board"), 2, "nosuch: no such artifact"),
        (("frobnicate",), 2, "No such command"),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_its_exit_code(
    monkeypatch, capsys, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    if "tests/invalid_profiles/unknown-key.yaml" not in arguments:
        monkeypatch.chdir(tmp_path)
    ended, out, err = run(monkeypatch, capsys, *arguments)
    assert (ended, out) == (code, "")
    assert message in err
    assert not [path for path in tmp_path.rglob("*") if path.name != "artifacts"]


def test_a_misspelt_setting_of_a_recipe_names_the_near_miss(monkeypatch, capsys, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("steps: [{step: fold}, {step: quantize, settings: {bias_corection: true}}]\n")
    code, _, err = run(monkeypatch, capsys, "build", *PI, "--recipe", str(recipe), "--out", str(tmp_path / "a"))
    assert code == 2
    assert "no setting `bias_corection`; did you mean `bias_correction`?" in err
    recipe.write_text("steps: [{step: quantise}]\n")
    code, _, err = run(monkeypatch, capsys, "build", *PI, "--recipe", str(recipe), "--out", str(tmp_path / "a"))
    assert code == 2
    assert "a step `quantise`; did you mean `quantize`" in err


def test_unstructured_sparsity_is_refused_with_the_measurement(monkeypatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("steps: [{step: sparsify}, {step: fold}, {step: quantize}]\n")
    arguments = ("build", *PI, "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "a"))
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 3
    told = " ".join(err.split())
    assert "the step `sparsify` is refused" in told
    assert "with 90 % of them zero LiteRT takes 0.97 to 0.99 of dense fp32's time" in told
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            "[{step: fold}, {step: quantize, settings: {keep_float: stem}}]",
            "`keep_float`: Input should be a valid",
        ),
        ("[{step: fold}, {step: quantize, settings: {bias_correction: 'no'}}]", "`bias_correction`: Input should be a"),
        ("[{step: quantize}]", "the recipe's step `quantize` comes once, and after `fold`"),
        ("[{step: fold}, {step: quantize}, {step: quantize}]", "the recipe's step `quantize` comes once"),
        ("[{step: fold}, {step: quantize}, {step: prune}]", "the recipe's step `prune` comes before `quantize`"),
        ("[{step: prune, settings: {keep_macs: 0.5, keep_latency: 0.5}}]", "keep_macs and keep_latency contradict"),
        ("[{step: fold}, {step: quantize}, {step: fold}]", "the recipe's step `fold` comes before `quantize`"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_bad_input(
    monkeypatch, capsys, tmp_path: Path, images: Path, steps: str, message: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"steps: {steps}\n")
    code, _, err = run(
        monkeypatch, capsys, "build", NET, *PI, "--weights", "random", "--data", str(images), "--recipe", str(recipe),
        "--out", str(tmp_path / "a"), "-q",
    )  # fmt: skip
    assert code == 2, err
    assert message in err


def test_dry_run_prints_the_recipe_with_the_flags_on_top(monkeypatch, capsys, tmp_path: Path) -> None:
    code, out, _ = run(
        monkeypatch, capsys, "build", *PI, "--dry-run", "--max-drop", "0.5", "--keep-float", "stem", "--format", "onnx"
    )
    assert code == 0
    (tmp_path / "recipe.yaml").write_text(out)
    code, again, _ = run(monkeypatch, capsys, "build", *PI, "--dry-run", "--recipe", str(tmp_path / "recipe.yaml"))
    assert (code, again) == (0, out)
    assert "max_drop_points: 0.5" in out
    assert out.startswith(f"# yaml-language-server: $schema={RECIPE_SCHEMA.as_uri()}\n"), "editors find no schema"


def test_an_existing_output_is_refused_before_any_work_and_left_alone(monkeypatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "precious.txt").write_text("mine")
    code, _, err = run(monkeypatch, capsys, "build", *PI, "--out", str(tmp_path / "there"))
    assert code == 2
    assert "exists help: choose another name (--out), or ask to overwrite it (--overwrite)" in err
    code, _, err = run(monkeypatch, capsys, "build", *PI, "--out", str(tmp_path / "there"), "--overwrite")
    assert code == 2
    assert "holds files that are no edgeslim artifact" in err
    assert (tmp_path / "there" / "precious.txt").read_text() == "mine"


def test_check_says_in_its_first_line_that_the_default_fits(monkeypatch, capsys) -> None:
    code, out, _ = run(monkeypatch, capsys, "check", *PI)
    assert (code, out.splitlines()[0]) == (0, "the bundled default can be built for raspberry-pi")
    assert "12,512 of Fashion-MNIST (bundled): 512 calibrate, 2,000 select, 10,000 judge" in out


def test_our_own_bug_leaves_a_report_and_exit_code_1(monkeypatch, capsys) -> None:
    monkeypatch.setattr("edgeslim.cli.commands.inspect.all_profiles", lambda: 1 / 0)
    code, _, err = run(monkeypatch, capsys, "devices")
    assert code == 1
    report = Path(err.rpartition(" ")[2])
    assert "ZeroDivisionError" in report.read_text()
    report.unlink()


@contextmanager
def building(images: Path, out: Path, temporary: Path, *extra: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a build that heeds Ctrl-C even where the tests themselves run in the background and must not."""
    temporary.mkdir()
    with running(
        "-c", HEEDING_CTRL_C, "build", NET, *PI, "--weights", "random", "--data", str(images), "--out", str(out),
        "--no-prune", *extra, TMPDIR=str(temporary),
    ) as process:  # fmt: skip
        yield process


def children_of(pid: int | str) -> list[str]:
    """Return what any thread of a process started."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += children.read_text().split()
    return found


def worker_of(process: "subprocess.Popen[str]", format_name: str) -> int:
    """Wait for a worker that writes a format, which the server of workers forks, and return its pid."""
    for _ in range(18_000):
        for pid in (worker for server in children_of(process.pid) for worker in children_of(server)):
            with contextlib.suppress(FileNotFoundError):
                if Path(f"/proc/{pid}/comm").read_text().startswith(format_name):
                    return int(pid)
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    raise AssertionError("no exporter was started")


def test_ctrl_c_leaves_no_artifact_no_temporary_file_and_no_process(images: Path, tmp_path: Path) -> None:
    with building(images, tmp_path / "artifact", tmp_path / "temporary") as process:
        worker = worker_of(process, "onnx")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "error: interrupted; nothing half-written was left"
    assert not alive(worker)
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    left = {path.name for path in (tmp_path / "temporary").iterdir()}
    assert left <= {f"torchinductor_{getpass.getuser()}"}, (
        "torch keeps an empty cache folder there, nothing else may stay"
    )


def test_a_killed_exporter_is_named_with_its_log_and_the_other_formats_are_kept(images: Path, tmp_path: Path) -> None:
    wishes = ("--format", "onnx", "--format", "tflite", "--max-drop", "50")
    with building(images, tmp_path / "artifact", tmp_path / "temporary", *wishes) as process:
        os.kill(worker_of(process, "tflite"), signal.SIGKILL)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 7
    words = " ".join(err.split())
    assert "the tflite exporter (fp32) was killed by SIGKILL" in words
    log = tmp_path / "artifact.logs" / "tflite_fp32.log"
    assert str(log) in words
    assert log.is_file()
    assert "onnx" in out, "what was found of the other format is not shown"
    manifest = json.loads((tmp_path / "artifact" / "manifest.json").read_text())
    assert manifest["status"] == "rejected"
    assert {model["format"] for model in manifest["models"]} == {"onnx"}
    assert edgeslim("verify", str(tmp_path / "artifact")).returncode == 0


def test_an_accuracy_below_the_demand_is_exit_code_3_and_the_artifact_is_marked_rejected(
    images: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "coarse.yaml"
    recipe.write_text(
        "steps: [{step: fold}, {step: quantize, settings: {activation_range: minmax, bias_correction: false}}]\n"
        "formats: [onnx]\nmax_drop_points: 0\n"
    )
    done = edgeslim(
        "build", NET, *PI, "--weights", "random", "--data", str(images), "--recipe", str(recipe),
        "--out", str(tmp_path / "artifact"), "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "points of top-1 agreement, 0 are allowed (--max-drop)" in " ".join(done.stderr.split())
    summary = json.loads(done.stdout)
    assert summary["status"] == "rejected"
    assert json.loads((tmp_path / "artifact" / "manifest.json").read_text())["status"] == "rejected"
    (reason,) = summary["reasons"]
    shown = edgeslim("show", str(tmp_path / "artifact"))
    assert f"rejected: {reason}" in " ".join(shown.stdout.split())
    assert f"- rejected: {reason}" in (tmp_path / "artifact" / "README.md").read_text()


def test_a_size_out_of_reach_is_exit_code_3_with_the_smallest_network_written(images: Path, tmp_path: Path) -> None:
    done = edgeslim(
        "build", NET, *PI, "--weights", "random", "--data", str(images), "--format", "tflite", "--max-drop", "100",
        "--max-size", "1KB", "--out", str(tmp_path / "artifact"), "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    said = " ".join(done.stderr.split())
    assert "tflite int8 takes" in said
    assert "1 KB are allowed (--max-size)" in said
    assert "--max-drop)" not in said, "what binds is named alone"
    assert re.search(r"help: --max-size \d+KB would take it help: a larger --max-drop lets pruning take more$", said)
    manifest = json.loads((tmp_path / "artifact" / "manifest.json").read_text())
    assert manifest["status"] == "rejected"
    trials = json.loads((tmp_path / "artifact" / "measurements" / "pruning_trials.json").read_text())
    assert manifest["model"]["macs"] == min(trial["macs"] for trial in trials)
    assert edgeslim("verify", str(tmp_path / "artifact")).returncode == 0
