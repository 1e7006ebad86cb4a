"""Build a TensorRT engine of this artifact on the device itself: `python3 build_engine.py [--precision fp16]`.

Needs Python 3.10 and NVIDIA's trtexec, nothing else. An engine fits one TensorRT, one GPU and one power mode: all of
them are in its name, and an engine of that name that is there is not built again.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
JETPACK_TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
VERSION = re.compile(r"\[TensorRT v(\d+)\]")  # 8502 is 8.5.2, 100300 is 10.3.0
TIMEOUT_S = 7200


class Unable(Exception):
    """Why no engine can be built here, and what to do."""


def main() -> int:
    """Build the engine that was asked for; return 0, or 7 with the reason on stderr where it cannot be built."""
    parser = argparse.ArgumentParser(description="Build a TensorRT engine of this artifact on this device.")
    parser.add_argument("--precision", choices=("fp16", "int8", "fp32"), help="by default that of the primary model")
    parser.add_argument("--out", type=Path, default=Path("engines"), help="folder of the engines (default engines)")
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="print trtexec's arguments, build nothing")
    arguments = parser.parse_args()
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    try:
        if manifest["status"] == "rejected":
            say("this artifact is marked rejected: " + "; ".join(manifest["reasons"]))
        model = choose(manifest, arguments.precision)
        trtexec = find_trtexec(arguments.root)
        tensorrt = version_of(trtexec, manifest["gpu"]["min_tensorrt_version"])
        key = ["trt" + tensorrt, *machine_key(arguments.root)]
        named = "-".join([manifest["artifact"]["name"], manifest["artifact"]["version"], model["precision"], *key])
        engine = arguments.out / f"{named}.engine"
        command = [trtexec, f"--onnx={HERE / model['path']}", *manifest["gpu"]["flags"][model["precision"]]]
        if arguments.dry_run:
            sys.stdout.write(json.dumps([*command, f"--saveEngine={engine}", "--skipInference"]) + "\n")
            return 0
        if engine.is_file():
            say(f"{engine} is there already, built by this TensorRT on this device in this power mode")
        else:
            build(command, engine)
    except Unable as reason:
        say(str(reason))
        return 7
    sys.stdout.write(f"{engine}\n")
    return 0


def choose(manifest: dict[str, Any], precision: str | None) -> dict[str, Any]:
    """Return the ONNX model of a precision, by default the primary; Unable where there is none."""
    wanted = [
        one
        for one in manifest["models"]
        if one["format"] == "onnx"
        and (one["precision"] == precision if precision else one["path"] == manifest["primary"])
    ]
    if not wanted:
        held = ", ".join(sorted(one["precision"] for one in manifest["models"] if one["format"] == "onnx"))
        raise Unable(f"this artifact has no {precision or 'primary'} ONNX model; --precision: {held or 'none'}")
    found: dict[str, Any] = wanted[0]
    return found


def find_trtexec(root: Path) -> str:
    """Return the path of trtexec: on PATH, or where JetPack puts it."""
    found = shutil.which("trtexec") or shutil.which(str(root / JETPACK_TRTEXEC.lstrip("/")))
    if found is None:
        raise Unable(
            f"trtexec is neither on PATH nor at {JETPACK_TRTEXEC}: engines are built by TensorRT on the device; "
            "install it there (Jetson: apt install tensorrt) and run this script there"
        )
    return found


def version_of(trtexec: str, least: str) -> str:
    """Return TensorRT's version as trtexec prints it (10.3.0); Unable for an older one than `least`."""
    try:
        done = subprocess.run(
            [trtexec, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unable(f"{trtexec} cannot be run: {error}") from error
    text = done.stdout.decode("utf-8", "replace")
    found = VERSION.search(text)
    if found is None:
        raise Unable(f"{trtexec} --help does not tell TensorRT's version, so an engine could not be told apart")
    packed = int(found.group(1))
    base = 100 if packed >= 10_000 else 10  # from TensorRT 10 on two digits hold the minor version
    parts = [packed // (100 * base), packed // 100 % base, packed % 100]
    if parts < [int(part) for part in least.split(".")]:
        shown = ".".join(map(str, parts))
        raise Unable(f"{trtexec} is of TensorRT {shown}; this artifact was made for {least} or newer")
    return ".".join(map(str, parts))


def machine_key(root: Path) -> list[str]:
    """Return what else an engine depends on: the GPU's compute capability, L4T and the power mode, as far as told."""
    key = []
    capability = ask(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"])
    model = read(root / "proc/device-tree/model")
    if capability and re.fullmatch(r"\d+\.\d+", capability.splitlines()[0].strip()):
        key.append("sm" + capability.splitlines()[0].strip().replace(".", ""))
    elif "Orin" in model:
        key.append("sm87")
    else:
        raise Unable("neither nvidia-smi nor the device tree tells which GPU this is; an engine fits one GPU only")
    release = read(root / "etc/nv_tegra_release")
    found = re.search(r"R(\d+)[^,]*, REVISION: ([\d.]+)", release)
    if found:
        key.append(f"l4t{found.group(1)}.{found.group(2)}")
    mode = ask(["nvpmodel", "-q"]) if found else ""
    named = re.search(r"NV Power Mode:\s*(\S+)", mode)
    if found and not named:
        raise Unable("nvpmodel -q does not tell the power mode; an engine is tuned for one (try it with sudo)")
    if named:
        key.append(re.sub(r"[^A-Za-z0-9_]", "_", named.group(1)))
    return key


def build(command: list[str], engine: Path) -> None:
    """Run trtexec; the engine appears whole or not at all, its log beside it."""
    engine.parent.mkdir(parents=True, exist_ok=True)
    part, log = engine.with_name(engine.name + ".part"), engine.with_name(engine.name + ".log")
    try:
        with log.open("wb") as output:
            done = subprocess.run(
                [*command, f"--saveEngine={part}", "--skipInference"],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
                check=False,
            )
        if done.returncode or not part.is_file():
            raise Unable(f"trtexec ended with {done.returncode} and made no engine; its log: {log}")
        part.replace(engine)
    except subprocess.TimeoutExpired as error:
        raise Unable(f"trtexec did not end within {TIMEOUT_S} s; its log: {log}") from error
    finally:
        if part.exists():
            part.unlink()


def ask(command: list[str]) -> str:
    """Return what a program prints, nothing where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def read(file: Path) -> str:
    """Return what a small file holds, nothing where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def say(text: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"build_engine.py: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
