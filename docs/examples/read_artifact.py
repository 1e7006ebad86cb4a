"""Run an artifact in ONNX Runtime, as an application on the device would: python read_artifact.py ARTIFACT IMAGE...

Needs numpy, Pillow and onnxruntime, and no edgeslim. ARTIFACT is the folder. Hashes and golden vectors are checked
before any image is answered.
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
import numpy as np
import onnxruntime


def check_hashes(folder: Path) -> int:
    """Compare every file with SHA256SUMS; return how many there are, ValueError names one that differs."""
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    for line in lines:
        wanted, name = line.split(maxsplit=1)
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != wanted:
            raise ValueError(f"{name} is not what SHA256SUMS says")
    return len(lines)


def open_session(folder: Path, model: dict[str, Any]) -> onnxruntime.InferenceSession:
    """Open a model file; without that entry, x86 CPUs that have no VNNI saturate the sums of an INT8 file."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(str(folder / model["path"]), options, providers=["CPUExecutionProvider"])


def answers(session: onnxruntime.InferenceSession, image: np.ndarray) -> list[np.ndarray]:
    """Return the outputs for one image, (1, C, H, W) float32."""
    found: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: image})
    return found


def check_golden(folder: Path, model: dict[str, Any], session: onnxruntime.InferenceSession) -> int:
    """Compare the answers to the golden inputs with the golden outputs; return how many inputs there are."""
    inputs = np.load(folder / "golden" / "inputs_nchw.npy")
    found = [answers(session, one[None]) for one in inputs]
    for place, output in enumerate(model["outputs"]):
        golden, tolerance = np.load(folder / output["golden"]), output["tolerance"]
        error = np.abs(np.concatenate([one[place] for one in found]) - golden)
        if tolerance["kind"] == "lsb":
            allowed = (tolerance["lsb"] + 0.01) * tolerance["scale"]
        else:
            allowed = tolerance["atol"] + tolerance["rtol"] * np.abs(golden)
        if not (error <= allowed).all():
            raise ValueError(
                f"{model['path']}: `{output['name']}` departs from its golden vectors by {error.max():.3g}"
            )
    return len(inputs)


def main() -> None:
    """Check the artifact, then print for each image the likeliest label and its logit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    arguments = parser.parse_args()
    folder = arguments.artifact
    manifest = json.loads((folder / "manifest.json").read_text())
    model = next(one for one in manifest["models"] if one["format"] == "onnx" and one["precision"] == "int8")
    files, session = check_hashes(folder), open_session(folder, model)
    print(f"{files} files are whole, {check_golden(folder, model, session)} golden vectors are met by {model['path']}")

    sys.dont_write_bytecode = True  # the artifact stays as it is
    sys.path.insert(0, str(folder))
    import preprocessing  # the artifact's own: how an image becomes an input, in numpy and Pillow

    how = preprocessing.Preprocessing.from_dict(manifest["preprocessing"])
    for file in arguments.images:
        image = preprocessing.preprocess(preprocessing.decode(str(file), how), how)  # H, W, C
        logits = answers(session, np.ascontiguousarray(image.transpose(2, 0, 1)[None]))[0][0]
        print(f"{file}\t{manifest['task']['labels'][logits.argmax()]}\t{logits.max():.2f}")


if __name__ == "__main__":
    main()
