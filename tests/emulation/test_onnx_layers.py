"""What a layer of an ONNX file is: its multiply-adds, its channels, whether it is depthwise."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeslim.emulation.onnx_layers import Layer, layers_of


@pytest.fixture
def network(tmp_path):
    """Return a function that saves nodes behind a 1x8x6x6 input, with zero weights of these shapes."""

    def save(nodes, shapes, output, size=6):
        weights = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()]
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes, "network", [value("x", TensorProto.FLOAT, (1, 8, size, size))],
            [value("y", TensorProto.FLOAT, output)], weights,
        )  # fmt: skip
        file = tmp_path / "network.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
        return file

    return save


def test_a_convolution_multiplies_its_weights_at_every_output(network):
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1], strides=[2, 2])
    found = layers_of(network([conv], {"w": (16, 8, 3, 3)}, (1, 16, 3, 3)))
    assert found == {"conv": Layer(macs=16 * 3 * 3 * 8 * 9, inputs=8, outputs=16, depthwise=False)}


def test_a_depthwise_convolution_reads_one_channel_for_each_it_writes(network):
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", group=8)
    found = layers_of(network([conv], {"w": (8, 1, 3, 3)}, (1, 8, 4, 4)))
    assert found == {"conv": Layer(macs=8 * 4 * 4 * 9, inputs=8, outputs=8, depthwise=True)}


@pytest.mark.parametrize(("transposed", "shape"), [(1, (10, 288)), (0, (288, 10))])
def test_a_linear_layer_is_read_whichever_way_its_weights_lie(network, transposed, shape):
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["y"], name="linear", transB=transposed),
    ]
    assert layers_of(network(nodes, {"w": shape}, (1, 10))) == {"linear": Layer(2880, 288, 10, depthwise=False)}


def test_a_layer_whose_shape_is_open_is_left_out(network):
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    assert layers_of(network([conv], {"w": (16, 8, 3, 3)}, (1, 16, None, None), size="n")) == {}
