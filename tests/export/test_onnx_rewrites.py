"""What is rewritten in an ONNX file computes the same numbers, and is gone where it was to go."""

import copy
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its common name

from edgeslim.export.onnx_rewrites import count_no_padding, merge_zeros, pad_by_joining, pad_codes, pool_means
from tests.support.small_models import Passing, randomized

IMAGE = torch.randn(1, 3, 9, 11, generator=torch.Generator().manual_seed(0))
POOLED = {"Squeeze": 1}  # behind a pool, where the mean keeps no axis
Forward = Callable[[nn.Module, Tensor], Tensor]


def written(forward: Forward) -> onnx.ModelProto:
    """Return the file of a network that has a convolution, a 3x3 one that reads 4 channels, and what is given."""
    network = randomized(Passing(forward, stem=nn.Conv2d(3, 4, 1), conv=nn.Conv2d(4, 5, 3, padding=(1, 0))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.onnx warns of torch
        program = torch.onnx.export(network.eval(), (IMAGE,), dynamo=True, verbose=False, opset_version=20)
    assert program is not None
    return program.model_proto


def outputs(model: onnx.ModelProto) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: IMAGE.numpy()})[0]


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize(
    ("rewrite", "forward", "gone", "there"),
    [
        (merge_zeros, lambda self, x: self.conv(F.pad(self.stem(x), (2, 1, 0, 3))), {"Pad": 1}, {}),
        (pad_by_joining, lambda self, x: F.pad(self.stem(x), (2, 1, 0, 3), value=0.5), {"Pad": 1}, {"Concat": 2}),
        (pad_by_joining, lambda self, x: F.pad(self.stem(x), (0, 2), value=-7.0), {"Pad": 1}, {"Concat": 1}),
        (pool_means, lambda self, x: self.stem(x).mean((2, 3)), {"ReduceMean": 1}, POOLED | {"GlobalAveragePool": 1}),
        (pool_means, lambda self, x: self.stem(x).mean(2, keepdim=True), {"ReduceMean": 1}, {"AveragePool": 1}),
        (pool_means, lambda self, x: self.stem(x).mean(-1), {"ReduceMean": 1}, POOLED | {"AveragePool": 1}),
        (count_no_padding, lambda self, x: F.avg_pool2d(self.stem(x), 3, 2, 1), {}, {"Mul": 1}),
    ],
)  # fmt: skip
def test_a_rewrite_computes_the_same(
    rewrite: Callable[[onnx.GraphProto], None], forward: Forward, gone: dict[str, int], there: dict[str, int]
) -> None:
    model = written(forward)
    wanted, before = outputs(model), kinds(model)
    rewrite(model.graph)
    assert kinds(model) == before - Counter(gone) + Counter(there)
    assert np.allclose(outputs(model), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("rewrite", "forward"),
    [
        (merge_zeros, lambda self, x: self.conv(F.pad(self.stem(x), (1, 1), value=0.1))),  # its zeros are none
        (merge_zeros, lambda self, x: self.conv(y := F.pad(self.stem(x), (1, 1))).mean() + y.mean()),  # read elsewhere
        (merge_zeros, lambda self, x: self.conv(F.pad(self.stem(x), (1, 1, 0, 0), mode="reflect"))),
        (pad_by_joining, lambda self, x: F.pad(self.stem(x), (1, 1, 0, 0), mode="replicate")),
        (pad_by_joining, lambda self, x: F.pad(self.stem(x), (1, 1))),
        (pad_by_joining, lambda self, x: F.pad(self.stem(x), (0, 0), value=2.0)),
        (pool_means, lambda self, x: self.stem(x).mean(1, keepdim=True)),
    ],
)
def test_what_it_is_not_for_stays(rewrite: Callable[[onnx.GraphProto], None], forward: Forward) -> None:
    model = written(forward)
    before = model.SerializeToString(deterministic=True)
    rewrite(model.graph)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_codes_are_padded_in_place_of_numbers(mode: str, tmp_path: Path) -> None:
    constants = {"scale": np.float32(0.1), "zero": np.uint8(7), "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1])}
    constants["value"] = np.float32(0.31)
    pad = onnx.helper.make_node("Pad", ["b", "pads", *(["value"] if mode == "constant" else [])], ["c"], mode=mode)
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["a"]),
        onnx.helper.make_node("DequantizeLinear", ["a", "scale", "zero"], ["b"]),
        pad,
        onnx.helper.make_node("QuantizeLinear", ["c", "scale", "zero"], ["d"]),
        onnx.helper.make_node("DequantizeLinear", ["d", "scale", "zero"], ["y"]),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list("nchw")) for name in ("x", "y")]
    held = [numpy_helper.from_array(np.array(one), name) for name, one in constants.items()]
    graph = onnx.helper.make_graph(nodes, "pad", ends[:1], ends[1:], held)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    wanted = outputs(model)
    unread = copy.deepcopy(model)
    unread.graph.node[3].CopyFrom(onnx.helper.make_node("Conv", ["c", "weight"], ["d"]))
    unread.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 2, 2), np.float32), "weight"))
    assert pad_codes(unread.graph, []) == [], "what is padded is read in float"
    assert pad_codes(model.graph, ["y"]) == [], "the network's output is no tensor that the plan knows"
    assert pad_codes(model.graph, []) == ["c"]
    assert kinds(model) == {"QuantizeLinear": 1, "Pad": 1, "DequantizeLinear": 1}
    assert np.array_equal(outputs(model), wanted)
