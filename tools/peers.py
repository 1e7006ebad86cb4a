"""What edgeslim is compared with: others' pruning, quantization and rounding, in the settings their authors recommend.

The pruners need `pip install torch-pruning==1.6.1`, the quantizer of OpenVINO `pip install nncf`. No labels are used.
Run by itself this file writes one peer's INT8 file: `python tools/peers.py FORMAT SOURCE TARGET INPUTS.npy`.
"""

import argparse
import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from edgeslim.errors import Refused
from edgeslim.model.graph import copy_of, layers_of, parameter, trace

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # OpenVINO and NNCF fall back to sending nothing

Cost = Callable[[fx.GraphModule], float]

BATCH = 128
HALVINGS = 10  # of the interval of pruning ratios: its last step is a thousandth


@dataclass(frozen=True)
class PrunerSettings:
    """A pruner of torch-pruning: its criterion with what that is told, and where channels compete."""

    criterion: str
    options: Mapping[str, Any]
    scope: Mapping[str, bool]

    @property
    def takes_gradients(self) -> bool:
        """Tell whether the criterion reads gradients."""
        return "Taylor" in self.criterion


# With multivariable=True, the standard expansion, both Taylor peers keep more accuracy here than with their default.
TAYLOR = partial(PrunerSettings, "GroupTaylorImportance", {"multivariable": True})
SETTINGS = {
    "uniform L1": PrunerSettings("MagnitudeImportance", {"p": 1, "group_reduction": "mean"}, {"global_pruning": False}),
    "global Taylor": TAYLOR({"global_pruning": True}),  # Molchanov et al. 2019, Importance Estimation for Pruning
    "isomorphic Taylor": TAYLOR({"global_pruning": True, "isomorphic": True}),  # Fang et al. 2024, Isomorphic Pruning
}


def describe(name: str) -> str:
    """Return the settings of a peer in one line."""
    if name in ROUNDERS:
        return f"round to nearest, symmetric, scale = max|w| / largest code: {name}"
    settings = SETTINGS[name]
    options, scope = (", ".join(f"{k}={v!r}" for k, v in part.items()) for part in (settings.options, settings.scope))
    data = "; gradients of the cross-entropy against the network's own answers" if settings.takes_gradients else ""
    return (
        f"torch-pruning {version('torch-pruning')}: {settings.criterion}({options}), {scope}, one step, the last layer "
        f"kept, widths rounded to the nearest channel multiple{data}; ratio by bisection; batch norms re-estimated"
    )


def prune(
    network: nn.Module,
    calibration: Tensor,
    cost: Cost,
    budget: float,
    multiple: int,
    *,
    settings: PrunerSettings,
) -> nn.Module:
    """Return the widest pruned copy whose `cost`, of its traced graph, is within the budget, batch norms re-estimated.

    `calibration` is (N, C, H, W), `multiple` the channel multiple of every pruned width. Raises Refused where not even
    the narrowest network is within the budget.
    """
    shape = (1, *calibration.shape[1:])
    scored = copy.deepcopy(network).eval()
    if settings.takes_gradients:
        _accumulate_gradients(scored, calibration)
    low, high, best = 0.0, 1.0, None
    for _ in range(HALVINGS):
        ratio = (low + high) / 2
        trial = _pruned(scored, torch.zeros(shape), ratio, multiple, settings)
        if cost(trace(trial, shape)) <= budget:
            best, high = trial, ratio
        else:
            low = ratio
    if best is None:
        raise Refused(f"no pruning ratio below 1 is within {budget:g}")
    reestimate_batch_norms(best, calibration)
    return best


PRUNERS: dict[str, Callable[[nn.Module, Tensor, Cost, float, int], nn.Module]] = {
    name: partial(prune, settings=settings) for name, settings in SETTINGS.items()
}


def _accumulate_gradients(network: nn.Module, images: Tensor) -> None:
    """Leave in every parameter the gradient of the cross-entropy against the network's own answers."""
    network.requires_grad_(True)
    for batch in images.split(BATCH):
        logits = network(batch)
        functional.cross_entropy(logits, logits.detach().argmax(1)).backward()


def _pruned(scored: nn.Module, image: Tensor, ratio: float, multiple: int, settings: PrunerSettings) -> nn.Module:
    """Return a copy of `scored` without the share `ratio` of its channels."""
    import torch_pruning

    class RoundingToNearest(torch_pruning.pruner.BasePruner):  # type: ignore[misc] # an untyped base
        """Its own rounding always goes down, far below a budget, and leaves a group whole that would vanish."""

        def _round_to(self, n_pruned: int, current_channels: int, round_to: int) -> int:
            kept = max(1, round((current_channels - n_pruned) / round_to)) * round_to
            return max(current_channels - kept, 0)

    network = copy.deepcopy(scored)
    for parameters in zip(network.parameters(), scored.parameters(), strict=True):
        parameters[0].grad = copy.deepcopy(parameters[1].grad)  # which copying a parameter leaves out
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    RoundingToNearest(
        network,
        image,
        importance=getattr(torch_pruning.importance, settings.criterion)(**settings.options),
        pruning_ratio=ratio,
        ignored_layers=layers[-1:],
        round_to=multiple,
        **settings.scope,
    ).step()
    network.zero_grad(set_to_none=True)
    return network


@torch.no_grad()
def reestimate_batch_norms(network: nn.Module, images: Tensor) -> None:
    """Replace the statistics of all batch norms by their cumulative averages over batches of `images`."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
        norm.train()
    for batch in images.split(BATCH):
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def round_weights(graph: fx.GraphModule, bits: int, end_bits: int, *, per_channel: bool) -> fx.GraphModule:
    """Return a copy of a folded graph with its weights rounded to the nearest code; its biases stay.

    `end_bits` is for the first and the last layer, in execution order.
    """
    rounded = copy_of(graph)
    layers = list(layers_of(rounded).values())
    with torch.no_grad():
        for index, node in enumerate(layers):
            weight = parameter(rounded, node.args[1])
            if weight is not None:
                largest = 2 ** ((end_bits if index in (0, len(layers) - 1) else bits) - 1) - 1
                peak = weight.abs().flatten(1).amax(1) if per_channel else weight.abs().amax().view(1)
                scale = (peak.clamp(min=1e-12) / largest).view(-1, *[1] * (weight.ndim - 1))
                weight.copy_((weight / scale).round() * scale)
    return rounded


ROUNDERS: dict[str, Callable[[fx.GraphModule], fx.GraphModule]] = {
    "W4 per channel, first and last layer W8": partial(round_weights, bits=4, end_bits=8, per_channel=True),
    "W8 per tensor": partial(round_weights, bits=8, end_bits=8, per_channel=False),
}


def quantize_static(source: Path, target: Path, inputs: np.ndarray) -> None:
    """Write ONNX Runtime's own static quantization of an fp32 file; inputs are NCHW."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # an untyped base
        """Hands out one image at a time."""

        def __init__(self) -> None:
            self._rows = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Return the next input, or None at the end."""
            row = next(self._rows, None)
            return None if row is None else {"input": row[None]}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared))
    quantization.quantize_static(
        str(prepared),
        str(target),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
        activation_type=quantization.QuantType.QUInt8,
    )


def nncf_quantize(source: Path, target: Path, inputs: np.ndarray) -> None:
    """Write NNCF's quantization of an fp32 IR; inputs are NCHW."""
    import nncf
    import openvino

    model = openvino.Core().read_model(source)
    quantized = nncf.quantize(model, nncf.Dataset([row[None] for row in inputs]))
    openvino.save_model(quantized, target, compress_to_fp16=False)


def nncf_controlled(source: Path, target: Path, inputs: np.ndarray) -> None:
    """Write NNCF's quantization with accuracy control: at most 0.01 of the right answers lost.

    Beside the target lies `validation.npz`: `inputs` (n, C, H, W) and `answers` (n,).
    """
    import nncf
    import openvino

    validation = np.load(target.with_name("validation.npz"))

    def accuracy(compiled: Any, data: Iterable[tuple[np.ndarray, int]]) -> tuple[float, None]:
        right = [int(np.argmax(compiled(image[None])[0])) == answer for image, answer in data]
        return float(np.mean(right)), None

    pairs = list(zip(validation["inputs"], validation["answers"].tolist(), strict=True))
    quantized = nncf.quantize_with_accuracy_control(
        openvino.Core().read_model(source),
        nncf.Dataset([row[None] for row in inputs]),
        nncf.Dataset(pairs, lambda pair: pair[0][None]),
        accuracy,
        max_drop=0.01,
    )
    openvino.save_model(quantized, target, compress_to_fp16=False)


def static_wi8_ai8(source: Path, target: Path, inputs: np.ndarray) -> None:
    """Write ai-edge-quantizer's own static quantization of an fp32 file; inputs are NHWC."""
    from ai_edge_quantizer import recipe

    _write_static(source, target, inputs, recipe.static_wi8_ai8())


def static_wi8_ai16(source: Path, target: Path, inputs: np.ndarray) -> None:
    """Write the same with activations of 16 bits."""
    from ai_edge_quantizer import recipe

    _write_static(source, target, inputs, recipe.static_wi8_ai16())


def _write_static(source: Path, target: Path, inputs: np.ndarray, recipe: list[dict[str, Any]]) -> None:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.qtyping import TFLOperationName

    name = Interpreter(str(source)).get_signature_list()["serving_default"]["inputs"][0]
    own = quantizer.Quantizer(str(source), recipe)
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):  # float, as our file's
        own.update_quantization_recipe(".*", end, algorithm_key="no_quantize")
    ranges = own.calibrate({"serving_default": [{name: row[None]} for row in inputs]}, num_threads=2)
    own.quantize(ranges).export_model(target, overwrite=True)


QUANTIZERS: dict[str, Callable[[Path, Path, Any], None]] = {
    "onnx": quantize_static,
    "openvino": nncf_quantize,
    "tflite": static_wi8_ai8,
    "w8a16": static_wi8_ai16,
    "controlled": nncf_controlled,
}
QUANTIZER_NAMES = {"onnx": "quantize_static", "openvino": "nncf.quantize", "tflite": "static_wi8_ai8"}


def write_quantized(quantizer: str, source: Path, target: Path, inputs: Path) -> None:
    """Run one quantizer in a fresh process: converters change what a second one in the same process would write."""
    command = [sys.executable, __file__, quantizer, str(source), str(target), str(inputs)]
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Write one quantized file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quantizer", choices=QUANTIZERS)
    for file in ("source", "target", "inputs"):
        parser.add_argument(file, type=Path)
    arguments = parser.parse_args()
    QUANTIZERS[arguments.quantizer](arguments.source, arguments.target, np.load(arguments.inputs))


if __name__ == "__main__":
    main()
