"""One operator at a time, at the limits of an Ethos-U and just beyond them; run, the file places them with Vela.

`python -m tests.support.npu_cases DEVICE FOLDER VELA-OPTIONS...` makes an INT8 TFLite file of each case as the exporter
would, compiles it with Vela and writes what kept it off the NPU, the operators placed on the CPU or how a tool failed;
then the same of every case that a rewrite cures, rewritten.
"""

import contextlib
import csv
import io
import json
import sys
import warnings
from pathlib import Path

import torch
from ai_edge_litert.interpreter import Interpreter
from torch import fx, nn
from torch.nn import functional

from edgeslim.compress.fold import folded
from edgeslim.compress.legalize.rewrites import rewrite_named
from edgeslim.compress.legalize.rules import violations
from edgeslim.devices.profile import DeviceProfile, load_profile
from edgeslim.export.tflite_operators import as_in_torch, respell
from edgeslim.model.graph import trace
from tests.support.small_models import Passing

SHAPE = (1, 8, 16, 16)


def behind(function, shape=SHAPE, **modules) -> tuple[nn.Module, tuple[int, ...]]:
    """A function of what a 1x1 convolution to 8 channels computes."""
    network = Passing(lambda self, x: function(self, self.first(x)), first=nn.Conv2d(shape[1], 8, 1), **modules)
    return network, shape


def alone(function, shape=SHAPE) -> tuple[nn.Module, tuple[int, ...]]:
    return Passing(lambda self, x: function(x)), shape


def even(layer: nn.Module) -> nn.Module:
    """Make all weights of a layer alike: the largest sum that its size allows."""
    with torch.no_grad():
        layer.weight.fill_(0.01)
    return layer


def shuffled(x, groups=2):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def resized(x, side, **settings):
    return functional.interpolate(x, size=(side, side), mode="bilinear", **settings)


def conv(*arguments, shape=SHAPE, **settings) -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Conv2d(shape[1], 8, *arguments, **settings), shape


def large(module: nn.Module) -> tuple[nn.Module, tuple[int, ...]]:
    return module, (1, 2, 258, 258)


# {case: (how to make its network and shape, the one rule that it breaks)}
CASES = {
    # Strides.
    "stride 3 with padding": (lambda: conv(3, 3, 1), None),
    "stride 4 with padding": (lambda: conv(3, 4, 1), "convolution_strides"),
    "stride 4": (lambda: conv(3, 4), None),
    "stride 5, height only": (lambda: conv(3, (5, 1)), None),
    "stride 3, depthwise": (lambda: conv(3, 3, groups=8), None),
    "stride 4, depthwise": (lambda: conv(3, 4, groups=8), "convolution_strides"),
    "stride 4, two groups": (lambda: conv(3, 4, groups=2), "convolution_strides"),
    "stride 2, dilated": (lambda: conv(3, 2, dilation=2), None),
    "stride 4, dilated": (lambda: conv(3, 4, dilation=2, shape=(1, 8, 32, 32)), "convolution_strides"),
    # Kernels and dilations that no rule limits.
    "kernel 65": (lambda: conv(65, shape=(1, 4, 70, 70)), None),
    "kernel 65 with padding": (lambda: conv(65, 2, 32, shape=(1, 4, 70, 70)), None),
    "kernel 1x300": (lambda: conv((1, 300), shape=(1, 4, 2, 310)), None),
    "dilation 64": (lambda: conv(3, dilation=64, shape=(1, 4, 140, 140)), None),
    "two groups": (lambda: conv(3, 1, 1, groups=2), None),
    "two filters a channel": (lambda: (nn.Conv2d(8, 16, 3, groups=8), SHAPE), None),
    # Channels and sums of weights.
    "65536 channels": (lambda: conv(1, shape=(1, 65536, 1, 1)), None),
    "65537 channels": (lambda: conv(1, shape=(1, 65537, 1, 1)), "channels"),
    "65537 features": (lambda: (nn.Sequential(nn.Flatten(), nn.Linear(65537, 2)), (1, 65537, 1, 1)), "channels"),
    "65536 like weights": (lambda: (even(nn.Conv2d(16384, 2, 2)), (1, 16384, 2, 2)), None),
    "65540 like weights": (lambda: (even(nn.Conv2d(16385, 2, 2)), (1, 16385, 2, 2)), "weight_sums"),
    "65540 weights of all sizes": (lambda: (nn.Conv2d(16385, 2, 2), (1, 16385, 2, 2)), None),
    # Windows.
    "average over 256x256": (lambda: large(nn.AvgPool2d(256, 1)), None),
    "average over 257x2": (lambda: large(nn.AvgPool2d((257, 2), 1)), "windows"),
    "average over 2x257": (lambda: large(nn.AvgPool2d((2, 257), 1)), None),
    "average over 256x257": (lambda: large(nn.AvgPool2d((256, 257), 1)), "windows"),
    "maximum over 256x256": (lambda: large(nn.MaxPool2d(256, 1)), None),
    "maximum over 257x2": (lambda: large(nn.MaxPool2d((257, 2), 1)), "windows"),
    "maximum over 256x257": (lambda: large(nn.MaxPool2d((256, 257), 1)), "windows"),
    "maximum at stride 5, padded as SAME": (lambda: (nn.MaxPool2d(5, 5, 2), SHAPE), "pooling_strides"),
    "maximum at stride 3, padded as SAME": (lambda: (nn.MaxPool2d(3, 3, 1), SHAPE), None),
    "maximum at stride 4, padded otherwise": (lambda: (nn.MaxPool2d(5, 4, 2), SHAPE), None),
    "maximum at stride 5": (lambda: (nn.MaxPool2d(5), SHAPE), None),
    "average at stride 4 with padding": (lambda: (nn.AvgPool2d(3, 4, 1), SHAPE), None),
    "average over 9x9 with padding": (lambda: (nn.AvgPool2d(9, 1, 4), SHAPE), None),
    "average over 7x7, padding left out": (lambda: (nn.AvgPool2d(7, 1, 3, count_include_pad=False), SHAPE), None),
    "average over 9x9, padding left out": (
        lambda: (nn.AvgPool2d(9, 1, 4, count_include_pad=False), SHAPE),
        "padded_averages",
    ),
    "average at stride 2, padding left out": (
        lambda: (nn.AvgPool2d(3, 2, 1, count_include_pad=False), SHAPE),
        None,
    ),
    "adaptive, 16 into 4": (lambda: behind(lambda self, x: functional.adaptive_avg_pool2d(x, 4)), None),
    "adaptive, 16 into 3": (lambda: behind(lambda self, x: functional.adaptive_avg_pool2d(x, 3)), None),
    # Sizes.
    "nearest, twice": (lambda: behind(lambda self, x: functional.interpolate(x, scale_factor=2)), None),
    "nearest, eight times": (lambda: behind(lambda self, x: functional.interpolate(x, scale_factor=8)), None),
    "nearest, three times": (lambda: behind(lambda self, x: functional.interpolate(x, scale_factor=3)), "resizes"),
    "nearest, the height only": (
        lambda: behind(lambda self, x: functional.interpolate(x, size=(32, 16))),
        "resizes",
    ),
    "nearest, 16 into 13": (lambda: behind(lambda self, x: functional.interpolate(x, size=(13, 13))), None),
    "nearest of one place": (
        lambda: behind(lambda self, x: functional.interpolate(x, size=(3, 5)), (1, 8, 1, 1)),
        None,
    ),
    "bilinear, twice": (lambda: behind(lambda self, x: resized(x, 32)), None),
    "bilinear, four times": (lambda: behind(lambda self, x: resized(x, 64)), "resizes"),
    "bilinear, corners aligned": (lambda: behind(lambda self, x: resized(x, 61, align_corners=True)), None),
    "bilinear, corners aligned, twice": (
        lambda: behind(lambda self, x: resized(x, 32, align_corners=True)),
        "resizes",
    ),
    # Means.
    "mean": (lambda: behind(lambda self, x: x.mean((2, 3), keepdim=True).flatten(1)), None),
    "mean that drops axes": (lambda: behind(lambda self, x: x.mean((2, 3))), "means"),
    "mean of the input": (lambda: alone(lambda x: x.mean((2, 3), keepdim=True)), "means"),
    "mean of a shuffle": (lambda: behind(lambda self, x: shuffled(x).mean((2, 3), keepdim=True)), "means"),
    "mean of a half": (lambda: behind(lambda self, x: x.chunk(2, 1)[0].mean((2, 3), keepdim=True)), None),
    "mean of a flipped image": (
        lambda: behind(lambda self, x: x.transpose(2, 3).relu().mean((2, 3), keepdim=True)),
        "means",
    ),
    "mean of a sum with a shuffle": (
        lambda: behind(lambda self, x: (x + shuffled(x)).mean((2, 3), keepdim=True)),
        "means",
    ),
    "mean over 4096": (lambda: behind(lambda self, x: x.mean((2, 3), keepdim=True), (1, 2, 2, 4096)), None),
    "mean over 4097": (lambda: behind(lambda self, x: x.mean((2, 3), keepdim=True), (1, 2, 2, 4097)), "means"),
    "mean over channels": (lambda: behind(lambda self, x: x.mean(1, keepdim=True)), "means"),
    "mean over channels that drops them": (lambda: behind(lambda self, x: x.mean(1)), None),
    "mean of what is padded": (
        lambda: behind(lambda self, x: functional.pad(x, (1, 2, 0, 1)).mean((2, 3), keepdim=True)),
        "means",
    ),
    "mean of a product of matrices": (
        lambda: behind(lambda self, x: (x @ x.relu()).mean((2, 3), keepdim=True)),
        "means",
    ),
    "mean over a row": (lambda: behind(lambda self, x: x.mean(3, keepdim=True)), None),
    "mean over a row that drops it": (lambda: behind(lambda self, x: x.mean(3)), "means"),
    "mean over a column that drops it": (lambda: behind(lambda self, x: x.mean(2)), None),
    "mean over one pixel": (lambda: behind(lambda self, x: x.mean((2, 3)), (1, 2, 1, 1)), None),
    "mean of two images": (lambda: behind(lambda self, x: x.mean((2, 3), keepdim=True), (2, 2, 8, 8)), "one_image"),
    # Clips.
    "ReLU6": (lambda: behind(lambda self, x: functional.relu6(x)), None),
    "clip at -1 and 1": (lambda: behind(lambda self, x: functional.hardtanh(x)), None),
    "clip at 0 and 1": (lambda: behind(lambda self, x: functional.hardtanh(x, 0, 1)), None),
    "clip at -2 and 3": (lambda: behind(lambda self, x: functional.hardtanh(x, -2, 3)), None),
    "ReLU6 of a sum": (lambda: behind(lambda self, x: functional.relu6(x + self.b(x)), b=nn.Conv2d(8, 8, 1)), None),
    "ReLU6 of a maximum": (lambda: behind(lambda self, x: functional.relu6(functional.max_pool2d(x, 2))), None),
    "ReLU6 of an average": (lambda: behind(lambda self, x: functional.relu6(functional.avg_pool2d(x, 2))), None),
    "ReLU6 of a flattened image": (lambda: behind(lambda self, x: functional.relu6(x.flatten(1))), None),
    "ReLU6 of what others read": (lambda: behind(lambda self, x: functional.relu6(x) + x), "clips"),
    "ReLU6 of a concatenation": (
        lambda: behind(lambda self, x: functional.relu6(torch.cat([x, self.b(x)], 1)), b=nn.Conv2d(8, 8, 1)),
        "clips",
    ),
    "ReLU6 of a ReLU": (lambda: behind(lambda self, x: functional.relu6(x.relu())), "clips"),
    "ReLU6 of the input": (lambda: alone(functional.relu6), "clips"),
    # Operators.
    "hard-swish": (lambda: behind(lambda self, x: functional.hardswish(x)), None),
    "SiLU": (lambda: behind(lambda self, x: functional.silu(x)), None),
    "squeeze and excite": (
        lambda: behind(
            lambda self, x: x * self.b(x.mean((2, 3), keepdim=True)).sigmoid(),
            b=nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1)),
        ),
        None,
    ),
    "hard-sigmoid": (lambda: behind(lambda self, x: functional.hardsigmoid(functional.max_pool2d(x, 2))), None),
    "GELU": (lambda: behind(lambda self, x: functional.gelu(x)), None),
    "tanh": (lambda: behind(lambda self, x: x.tanh()), None),
    "difference": (lambda: behind(lambda self, x: x - self.b(x), b=nn.Conv2d(8, 8, 1)), None),
    "zeros around": (
        lambda: behind(lambda self, x: self.b(functional.pad(x, (1, 2, 1, 2))), b=nn.Conv2d(8, 8, 3)),
        None,
    ),
    "halves exchanged": (lambda: behind(lambda self, x: torch.cat(x.chunk(2, 1)[::-1], 1)), None),
    "channel shuffle": (lambda: behind(lambda self, x: self.b(shuffled(x)), b=nn.Conv2d(8, 8, 1)), None),
    "channels last": (lambda: behind(lambda self, x: self.b(x.permute(0, 2, 3, 1)), b=nn.Linear(8, 4)), None),
    "copied": (lambda: behind(lambda self, x: x.clone().relu()), None),
    "reshaped": (lambda: behind(lambda self, x: self.b(x.reshape(1, 2048)), b=nn.Linear(2048, 4)), None),
    "flattened": (lambda: behind(lambda self, x: self.b(x.flatten(1)), b=nn.Linear(2048, 4)), None),
    "ELU": (lambda: behind(lambda self, x: functional.elu(x)), "operators"),
    "leaky ReLU": (lambda: behind(lambda self, x: functional.leaky_relu(x)), None),
    "PReLU": (lambda: behind(lambda self, x: self.b(x), b=nn.PReLU(8)), None),
    "larger": (lambda: behind(lambda self, x: torch.maximum(x, self.b(x)), b=nn.Conv2d(8, 8, 1)), None),
    "smaller": (lambda: behind(lambda self, x: torch.minimum(x, self.b(x)), b=nn.Conv2d(8, 8, 1)), None),
    "softmax": (lambda: behind(lambda self, x: x.flatten(1).softmax(1)), None),
    "product of matrices": (lambda: behind(lambda self, x: x @ x.relu()), None),
    "cut unequally": (lambda: behind(lambda self, x: torch.cat(x.split([3, 5], 1)[::-1], 1)), None),
    "every other place": (lambda: behind(lambda self, x: x[:, :, ::2, 1:]), None),
    "one of two": (lambda: behind(lambda self, x: self.b(x.unflatten(1, (2, 4))[:, 1]), b=nn.Conv2d(4, 8, 1)), None),
    "unbound": (lambda: behind(lambda self, x: torch.cat([y[:, None] for y in x.unbind(1)[::-1]], 1)), None),
    "spread": (
        lambda: behind(lambda self, x: torch.cat([x, x.amax((2, 3), keepdim=True).expand(-1, -1, 16, 16)], 1)),
        "operators",
    ),
    "mirrored border": (
        lambda: behind(lambda self, x: self.b(functional.pad(x, (1, 1, 1, 1), "reflect")), b=nn.Conv2d(8, 8, 3)),
        None,
    ),
    "pixel shuffle": (lambda: behind(lambda self, x: functional.pixel_shuffle(x, 2)), None),
    "transposed, stride 2": (lambda: behind(lambda self, x: self.b(x), b=nn.ConvTranspose2d(8, 8, 4, 2, 1)), None),
    "transposed, stride 3": (lambda: behind(lambda self, x: self.b(x), b=nn.ConvTranspose2d(8, 8, 3, 3)), None),
    "transposed, dilated": (
        lambda: behind(lambda self, x: self.b(x), b=nn.ConvTranspose2d(8, 8, 3, dilation=2)),
        None,
    ),
    "transposed, dilated, stride 2": (
        lambda: behind(lambda self, x: self.b(x), b=nn.ConvTranspose2d(8, 8, 3, 2, dilation=2)),
        None,
    ),
    "absolute": (lambda: behind(lambda self, x: x.abs()), "operators"),
    "quotient": (lambda: behind(lambda self, x: x / (x.relu() + 1)), "operators"),
    "square root": (lambda: behind(lambda self, x: (x.relu() + 0.1).sqrt()), "operators"),
    "group norm": (lambda: behind(lambda self, x: self.b(x), b=nn.GroupNorm(2, 8)), "operators"),
    "largest": (lambda: behind(lambda self, x: x.amax((2, 3))), None),
}


def folded_case(name: str) -> tuple[fx.GraphModule, tuple[int, ...]]:
    torch.manual_seed(0)
    network, shape = CASES[name][0]()
    return folded(network.eval(), shape)[0], shape


def cured(name: str, profile: DeviceProfile) -> tuple[fx.GraphModule, tuple[int, ...]] | None:
    """Return a case rewritten as the rules ask; None where no rewrite cures it."""
    graph, shape = folded_case(name)
    for _ in range(4):
        broken = violations(graph, profile)
        if any(one.cure is None for one in broken):
            return None
        for one in broken:
            (node,) = (node for node in graph.graph.nodes if node.name == one.layer)
            rewrite_named(str(one.cure)).rewrite(graph, node, profile.npu)
        graph = trace(graph, shape)
    return graph, shape


def place(graph: fx.GraphModule, shape: tuple[int, ...], folder: Path, options: list[str]) -> list[str]:
    """Return what keeps a network off the NPU: operators that Vela places on the CPU, or how a tool failed."""
    file = folder / "case.tflite"
    try:
        write_int8(graph, shape, file)
    except (RuntimeError, ValueError) as error:
        return [f"no INT8 file: {error}"]
    return placed_on_cpu(file, folder / "vela", options)


def write_int8(graph: fx.GraphModule, shape: tuple[int, ...], file: Path) -> None:
    """Write a network as TFLite, channels last, INT8 inside and at both ends, its ranges from noise."""
    import litert_torch
    from ai_edge_quantizer import quantizer, recipe

    images = [torch.randn(shape[0], *shape[2:], shape[1]) for _ in range(2)]
    as_in_torch(graph)
    respell(graph)
    floating = file.with_suffix(".float.tflite")
    litert_torch.convert(litert_torch.to_channel_last_io(graph, args=[0]).eval(), (images[0],)).export(str(floating))
    made = quantizer.Quantizer(str(floating), recipe.static_wi8_ai8())
    name = Interpreter(str(floating)).get_signature_list()["serving_default"]["inputs"][0]
    ranges = made.calibrate({"serving_default": [{name: image.numpy()} for image in images]}, num_threads=1)
    made.quantize(ranges).export_model(str(file), overwrite=True)


def placed_on_cpu(file: Path, folder: Path, options: list[str]) -> list[str]:
    """Return the operators that Vela places on the CPU; its own failure where it fails."""
    from ethosu.vela import vela

    for old in folder.glob("*.csv"):
        old.unlink()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            vela.main([str(file), "--output-dir", str(folder), "--verbose-performance", *options])
    except RuntimeError as error:
        return [f"Vela failed: {error}"]
    (report,) = folder.glob("*per-layer.csv")
    rows = list(csv.DictReader(report.read_text().splitlines()))
    return [row["Original Operator"] for row in rows if row["Target"] != "NPU"]


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # those of the converter, in a process of its own
    device, where, *vela_options = sys.argv[1:]
    folder = Path(where)
    placed = {name: place(*folded_case(name), folder, vela_options) for name in CASES}
    after = {name: cured(name, load_profile(device)) for name, (_, rule) in CASES.items() if rule}
    rewritten = {name: place(*case, folder, vela_options) for name, case in after.items() if case}
    (folder / "placed.json").write_text(json.dumps({"placed": placed, "rewritten": rewritten}))
