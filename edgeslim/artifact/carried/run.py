"""Run this artifact on one image: `python run.py IMAGE [--model PATH]`.

Needs numpy, Pillow and one runtime (onnxruntime, openvino, ai-edge-litert or tflite-runtime), nothing else.
"""

import argparse
import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PACKAGES = {
    "onnxruntime": ["onnxruntime"],
    "openvino": ["openvino"],
    "litert": ["ai_edge_litert", "tflite_runtime"],
}
SHOWN = 3  # classes
SHOWN_VALUES = 8  # of an output that is no logits


def main() -> int:
    """Print what the model answers; return the exit code."""
    parser = argparse.ArgumentParser(description="Run this artifact on one image.")
    parser.add_argument("image", help="the image file")
    parser.add_argument("--model", help="a model file of this artifact; without it the primary model runs")
    arguments = parser.parse_args()
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    if manifest["status"] == "rejected":
        say("this artifact is marked rejected: " + "; ".join(manifest["reasons"]))
    try:
        model = choose(manifest, arguments.model)
        inputs = read_image(arguments.image, manifest["preprocessing"])
    except ValueError as error:
        say(str(error))
        return 2
    if model["inputs"][0]["layout"] == "NCHW":
        inputs = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
    found = run(model["runtime"], HERE / model["path"], coded(inputs, model["inputs"][0]))
    outputs = {told["name"]: real(one, told) for told, one in zip(model["outputs"], found, strict=True)}
    task = manifest["task"]
    if task["name"] == "classification":
        outputs = likeliest(outputs, task["labels"])
    for name, values in outputs.items():
        shown = " ".join(f"{value:.6g}" for value in values.reshape(-1)[:SHOWN_VALUES])
        more = " ..." if values.size > SHOWN_VALUES else ""
        sys.stdout.write(f"{name}\t{'x'.join(map(str, values.shape))}\t{shown}{more}\n")
    return 0


def likeliest(outputs: dict[str, np.ndarray], labels: list[str]) -> dict[str, np.ndarray]:
    """Print the likeliest classes with their probabilities; return the outputs behind the first, the logits."""
    name, *others = outputs
    probabilities = softmax(outputs[name][0])
    for index in np.argsort(-probabilities)[:SHOWN]:
        sys.stdout.write(f"{labels[index] if labels else index}\t{probabilities[index]:.4f}\n")
    return {other: outputs[other] for other in others}


def coded(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Return real inputs as the model takes them: as they are, or as the codes of its int8 grid."""
    if tensor["dtype"] != "int8":
        return values.astype(tensor["dtype"])
    codes: np.ndarray = np.round(values / np.float32(tensor["scale"])) + tensor["zero_point"]
    return codes.clip(-128, 127).astype(np.int8)


def real(outputs: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Return a model's outputs as real values."""
    if tensor["dtype"] != "int8":
        return outputs.astype(np.float32)
    values: np.ndarray = (outputs.astype(np.int32) - tensor["zero_point"]) * np.float32(tensor["scale"])
    return values


def choose(manifest: dict[str, Any], wanted: str | None) -> dict[str, Any]:
    """Return the wanted model, else the primary, else the first whose runtime is installed; ValueError if none is."""
    models: list[dict[str, Any]] = manifest["models"]
    if wanted is not None:
        named = [m for m in models if wanted == m["path"] or Path(wanted).resolve() == HERE / m["path"]]
        if not named:
            raise ValueError(f"{wanted} is no model of this artifact; it holds {', '.join(m['path'] for m in models)}")
        if not installed(named[0]["runtime"]):
            raise ValueError(f"{wanted} needs {' or '.join(PACKAGES[named[0]['runtime']])}, which is not installed")
        return named[0]
    ordered = sorted(models, key=lambda m: (m["path"] != manifest["primary"], m["precision"] != "int8"))
    usable = [m for m in ordered if installed(m["runtime"])]
    if not usable:
        packages = sorted({PACKAGES[m["runtime"]][0].replace("_", "-") for m in models})
        raise ValueError(f"no runtime is installed; install one of {', '.join(packages)}")
    if usable[0]["path"] != manifest["primary"]:
        say(f"running {usable[0]['path']}: " + why_not_primary(ordered[0], manifest))
    return usable[0]


def why_not_primary(first: dict[str, Any], manifest: dict[str, Any]) -> str:
    """Return why another model than the primary runs."""
    primary, compiled = manifest["primary"], manifest.get("compiled")
    if compiled is not None and compiled["path"] == primary:
        return f"{primary} is compiled for {compiled['accelerator_config']} and runs on the device alone"
    return f"{primary} needs {first['runtime']}, which is not installed" if primary else "no model is marked primary"


def installed(runtime: str) -> bool:
    """Return whether a package with this runtime can be imported."""
    return any(importlib.util.find_spec(package) is not None for package in PACKAGES[runtime])


def read_image(path: str, settings: dict[str, Any]) -> np.ndarray:
    """Return the image as a batch of one, NHWC float32, by the preprocessing.py beside this file."""
    sys.dont_write_bytecode = True  # a __pycache__ would be a file that the manifest does not list
    sys.path.insert(0, str(HERE))
    preprocessing = importlib.import_module("preprocessing")
    how = preprocessing.Preprocessing.from_dict(settings)
    batch: np.ndarray = preprocessing.preprocess(preprocessing.decode(path, how), how)[None]
    return batch


def run(runtime: str, model: Path, inputs: np.ndarray) -> list[np.ndarray]:
    """Return the model's outputs for a batch, in its order."""
    return {"onnxruntime": run_onnxruntime, "openvino": run_openvino, "litert": run_litert}[runtime](model, inputs)


def run_onnxruntime(model: Path, inputs: np.ndarray) -> list[np.ndarray]:
    """Run an .onnx file."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # x86 without VNNI would saturate sums
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: inputs})
    return outputs


def run_openvino(model: Path, inputs: np.ndarray) -> list[np.ndarray]:
    """Run an .xml file with its .bin; the hint keeps float layers from silently running in 16 bits."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # how Python marks a module as absent
    openvino = importlib.import_module("openvino")
    compiled = openvino.Core().compile_model(str(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(inputs)
    return [np.asarray(found[output]) for output in compiled.outputs]


def run_litert(model: Path, inputs: np.ndarray) -> list[np.ndarray]:
    """Run a .tflite file."""
    package = next(name for name in PACKAGES["litert"] if importlib.util.find_spec(name) is not None)
    interpreter = importlib.import_module(f"{package}.interpreter").Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(output["index"])) for output in interpreter.get_output_details()]


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return scores as probabilities that add up to 1."""
    powers: np.ndarray = np.exp(scores - scores.max())
    shares: np.ndarray = powers / powers.sum()
    return shares


def say(text: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"run.py: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
