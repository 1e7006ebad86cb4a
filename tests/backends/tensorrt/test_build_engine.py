"""build_engine.py: what it tells trtexec, how an engine is named, and why it builds none. trtexec is a stand-in."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeslim.backends.tensorrt.section import BUILDER, FLAGS, SOURCE

TRTEXEC = """#!/bin/sh
case "$1" in --help) echo '&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # trtexec --help'; exit 0;; esac
for word in "$@"; do echo "$word" >> '{log}'; case "$word" in --saveEngine=*) echo engine > "${{word#*=}}";; esac; done
exit {code}
"""
MANIFEST = {
    "artifact": {"name": "net-jetson-orin-nano", "version": "1.0.0"},
    "status": "accepted",
    "reasons": [],
    "primary": "models/model_fp16.onnx",
    "models": [
        {"format": "onnx", "precision": "fp16", "path": "models/model_fp16.onnx"},
        {"format": "onnx", "precision": "int8", "path": "models/model_int8.onnx"},
    ],
    "gpu": {"min_tensorrt_version": "10.3", "flags": FLAGS},
}


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """An artifact, a Jetson's files under root/, and its programs in bin/."""
    (tmp_path / "artifact").mkdir()
    shutil.copyfile(SOURCE, tmp_path / "artifact" / BUILDER)
    (tmp_path / "artifact" / "manifest.json").write_text(json.dumps(MANIFEST))
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 1")
    (tmp_path / "root" / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "root" / "proc" / "device-tree" / "model").write_text("NVIDIA Jetson Orin Nano Developer Kit\0")
    program(tmp_path / "bin" / "nvpmodel", "#!/bin/sh\necho 'NV Power Mode: MAXN_SUPER'\necho 2\n")
    trtexec(tmp_path)
    return tmp_path


def trtexec(device: Path, version: str = "100300", code: int = 0) -> None:
    program(device / "bin" / "trtexec", TRTEXEC.format(version=version, log=device / "told", code=code))


def run(device: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "-P", str(device / "artifact" / BUILDER), "--root", str(device / "root"), *arguments]
    return subprocess.run(
        [*script, "--out", str(device / "engines")], env={"PATH": f"{device / 'bin'}:/usr/bin:/bin"}, text=True,
        capture_output=True, cwd=device, check=False,
    )  # fmt: skip


def test_the_engine_is_named_by_tensorrt_gpu_l4t_and_power_mode(device):
    done = run(device)
    assert done.returncode == 0, done.stderr
    name = "net-jetson-orin-nano-1.0.0-fp16-trt10.3.0-sm87-l4t36.4.3-MAXN_SUPER.engine"
    assert Path(done.stdout.strip()).name == name, "the name misses something an engine depends on"
    assert [file.name for file in (device / "engines").glob("*.engine")] == [name], "the engine is not there"
    assert not list((device / "engines").glob("*.part")), "an unfinished engine was left"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_trtexec_gets_the_onnx_file_and_strict_types(device, precision):
    assert run(device, "--precision", precision).returncode == 0, "no engine was built"
    told = (device / "told").read_text().splitlines()
    assert told[0] == f"--onnx={device / 'artifact' / 'models' / f'model_{precision}.onnx'}", "another file is built"
    assert "--stronglyTyped" in told, "TensorRT may choose precisions itself"
    assert not {"--fp16", "--int8", "--best"} & set(told), "a flag that lets TensorRT choose contradicts strict types"


def test_an_engine_that_is_there_is_not_built_again(device):
    run(device)
    (device / "told").unlink()
    done = run(device)
    assert done.returncode == 0, done.stderr
    assert "is there already" in done.stderr, "nothing says why nothing was built"
    assert not (device / "told").exists(), "trtexec was called again"


def test_another_power_mode_is_another_engine(device):
    run(device)
    program(device / "bin" / "nvpmodel", "#!/bin/sh\necho 'NV Power Mode: 15W'\n")
    run(device)
    assert len(list((device / "engines").glob("*.engine"))) == 2, "one engine served two power modes"


def test_a_dry_run_prints_the_arguments_and_builds_nothing(device):
    done = run(device, "--dry-run")
    assert "--stronglyTyped" in json.loads(done.stdout), "the arguments are not shown"
    assert not (device / "engines").exists(), "a dry run wrote something"


def spoil_trtexec(device: Path) -> None:
    (device / "bin" / "trtexec").unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_trtexec, "trtexec is neither on PATH nor at /usr/src/tensorrt/bin/trtexec"),
        (lambda device: trtexec(device, "8502"), "is of TensorRT 8.5.2; this artifact was made for 10.3 or newer"),
        (lambda device: trtexec(device, "unknown"), "does not tell TensorRT's version"),
        (lambda device: trtexec(device, code=3), "trtexec ended with 3 and made no engine; its log:"),
        (lambda device: (device / "bin" / "nvpmodel").unlink(), "nvpmodel -q does not tell the power mode"),
        (
            lambda device: (device / "root" / "proc" / "device-tree" / "model").write_text("a board"),
            "tells which GPU this is",
        ),
    ],
)
def test_without_what_it_needs_it_says_why_and_leaves_no_engine(device, spoil, reason):
    spoil(device)
    done = run(device)
    assert (done.returncode, done.stdout) == (7, ""), done.stderr
    assert reason in done.stderr, "the reason is not named"
    assert not [*device.glob("engines/*.engine"), *device.glob("engines/*.part")], "half an engine was left"


def test_a_precision_the_artifact_lacks_is_refused_with_those_it_has(device):
    done = run(device, "--precision", "fp32")
    assert done.returncode == 7, "an engine of nothing was built"
    assert "no fp32 ONNX model; --precision: fp16, int8" in done.stderr, "what there is is not named"
