"""Every rewrite computes what the module does, and leaves none of the operators it is there for."""

from collections import Counter
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from edgeslim.errors import BadModel
from edgeslim.model.equivalence import exactness
from edgeslim.model.graph import batched, forward, operator_name, output_nodes, trace
from edgeslim.model.normalize import normalized
from tests.support.small_models import Passing

SHAPE = (1, 8, 12, 10)
PIECES = ("cat", "pad", "select", "slice", "unsqueeze")
# Operator that must be gone -> what has it, and an operator that is there instead (None: nothing is).
REWRITTEN: dict[str, tuple[Callable[[Tensor], Tensor], str | None]] = {
    "sub": (lambda x: x - x.relu(), "add"),
    "rsub": (lambda x: 3 - x, "add"),
    "neg": (lambda x: -x, "mul"),
    "div": (lambda x: x / 3, "mul"),
    "square": (torch.square, "mul"),
    "pow": (lambda x: x**2 + x**3 + x.abs().add(1) ** 0.5, "sqrt"),
    "sum": (lambda x: x.sum((2, 3), keepdim=True) + x, "mean"),
    "clamp": (lambda x: x.clamp(-0.5, 0.7), "hardtanh"),
    "clamp_min": (lambda x: x.clamp_min(0.3) + x.clamp_min(0), "relu"),
    "clamp_max": (lambda x: x.clamp_max(0.3), "relu"),
    "split": (lambda x: torch.cat(torch.split(x, 2, 1)[::-1], 1), "chunk"),
    "split_with_sizes": (lambda x: torch.cat(torch.split(x, [4, 4], 1)[::-1], 1), "chunk"),
    "unbind": (lambda x: torch.cat([one[:, None] for one in x.unbind(1)[::-1]], 1), "chunk"),
    "stack": (lambda x: torch.stack([x, x.relu()], 2).flatten(1, 2), "cat"),
    "narrow": (lambda x: x.narrow(2, 3, 5), "slice"),
    "roll": (lambda x: torch.roll(x, (2, -3), (2, 3)), "cat"),
    "index_select": (lambda x: torch.index_select(x, 1, torch.tensor([3, 1, 2, 0, 5, 6])), "cat"),
    "index": (lambda x: x[:, torch.tensor([3, -1, 2, 0])], "slice"),
    "repeat": (lambda x: x.repeat(1, 2, 1, 3), "cat"),
    "swapaxes": (lambda x: torch.swapaxes(x, 1, 2), "transpose"),
    "max": (lambda x: x * torch.max(x, 1, keepdim=True)[0], "max_pool2d"),
    "amax": (lambda x: x * x.amax((2, 3), keepdim=True) + x.amax(2, keepdim=True), "max_pool2d"),
    "adaptive_max_pool2d": (lambda x: functional.adaptive_max_pool2d(x, (3, 5)), "max_pool2d"),
    "adaptive_avg_pool2d": (lambda x: functional.adaptive_avg_pool2d(x, (5, 7)), "cat"),
    "expand_as": (lambda x: torch.cat([x, x.mean((2, 3), keepdim=True).expand_as(x)], 1), "expand"),
    "expand": (lambda x: x * x.amax((2, 3), keepdim=True).abs().expand(-1, -1, 12, 10), "mul"),
    "reshape_as": (lambda x: x.transpose(2, 3).reshape_as(x) * x, "reshape"),
    "view_as": (lambda x: x.relu().view_as(x.transpose(2, 3)), "reshape"),
    "to": (lambda x: (x.float() + 1).relu().to(torch.float32), "relu"),
    "type_as": (lambda x: (x + 1).type_as(x), "add"),
    "_assert_tensor_metadata": (lambda x: (x + 1).float(), "add"),
    "wrap_with_set_grad_enabled": (torch.no_grad()(lambda x: x + x.relu()), "add"),
    "wrap_with_autocast": (lambda x: x * torch.autocast("cpu", enabled=False)(lambda x: x + x.relu())(x), "mul"),
    "unflatten": (lambda x: x.unflatten(1, (2, 4)).flatten(1, 2), "view"),
    "linalg_vector_norm": (lambda x: functional.normalize(x, dim=1), "sqrt"),
    "avg_pool3d": (lambda x: functional.local_response_norm(x, 3), "avg_pool2d"),
    "einsum": (lambda x: torch.einsum("bchw,bchw->bchw", x, x), "mul"),
    "pixel_shuffle": (lambda x: functional.pixel_shuffle(x, 2), "permute"),
    "pixel_unshuffle": (lambda x: functional.pixel_unshuffle(x, 2), "permute"),
    "channel_shuffle": (lambda x: functional.channel_shuffle(x, 4), "permute"),
    "contiguous": (lambda x: x.transpose(1, 2).contiguous().view(1, 96, 10), "reshape"),
    "relu": (lambda x: x.sigmoid().relu(), "sigmoid"),
    "alias": (lambda x: torch.ops.aten.alias(x).relu(), "relu"),
    "slice": (lambda x: torch.ops.aten.slice.Tensor(x, 1, 0, 8).relu(), "relu"),
    "dropout": (lambda x: functional.dropout2d(functional.dropout(x, training=False), training=False).relu(), "relu"),
    "relu_": (lambda x: functional.relu(x + 1, inplace=True), "relu"),
    "leaky_relu_": (lambda x: functional.leaky_relu(x + 1, 0.1, inplace=True), "leaky_relu"),
    "elu_": (lambda x: functional.elu(x + 1, inplace=True), "elu"),
    "celu_": (lambda x: functional.celu(x + 1, 0.7, inplace=True), "celu"),
    "selu_": (lambda x: functional.selu(x + 1, inplace=True), "selu"),
    "mish_": (lambda x: functional.mish(x + 1, inplace=True), "mish"),
    "tanh_": (lambda x: (x + 1).tanh_(), "tanh"),
    "feature_dropout_": (lambda x: functional.dropout2d(x + 1, training=False, inplace=True), "add"),
    "max_pool1d": (lambda x: functional.max_pool1d(x.flatten(2), 3, 2, 1), "max_pool2d"),
    "avg_pool1d": (lambda x: functional.avg_pool1d(x.flatten(2), 4), "avg_pool2d"),
    "adaptive_avg_pool1d": (lambda x: functional.adaptive_avg_pool1d(x.flatten(2), 1), "mean"),
}


def operators(graph: torch.fx.GraphModule) -> set[str]:
    return {operator_name(node) for node in graph.graph.nodes if node.op == "call_function"}


def require_same(network: nn.Module, shape: tuple[int, ...] = SHAPE) -> set[str]:
    """Hold the normalized network against the module; return its operators."""
    torch.manual_seed(0)
    graph = normalized(trace(network, shape))
    found = exactness(network, graph, torch.randn(3, *shape[1:]))
    assert found.holds, found
    assert [
        tuple(n.meta["val"].shape) for n in graph.graph.nodes if n.op == "call_function" and "val" not in n.meta
    ] == []
    return operators(graph)


@pytest.mark.parametrize("gone", REWRITTEN)
def test_an_operator_is_written_in_others_that_compute_the_same(gone: str) -> None:
    function, there = REWRITTEN[gone]
    network = Passing(lambda self, x: function(x)).eval()
    assert gone in operators(trace(network, SHAPE)), "the case does not have what it is for"
    found = require_same(network)
    assert gone not in found
    assert there is None or there in found


@pytest.mark.parametrize("kind", [nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])
@pytest.mark.parametrize("size", [(1, 1), (12, 10), (4, 5), (4, 10), (5, 7), (1, 10), (13, 3), (24, 20)])
def test_an_adaptive_pool_is_pools_of_its_windows(kind: type[nn.Module], size: tuple[int, int]) -> None:
    network = nn.Sequential(kind(size))
    assert not [name for name in require_same(network, (1, 8, 12, 10)) if "adaptive" in name]


@pytest.mark.parametrize("first", [True, False])
def test_a_class_token_is_added_and_any_number_of_images_taken(first: bool) -> None:
    def tokens(self, x):
        parts = [self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)]
        return torch.cat(parts if first else parts[::-1], 1)

    network = Passing(tokens)
    network.token = nn.Parameter(torch.randn(1, 1, 8))
    assert "cat" not in require_same(network)
    assert batched(normalized(trace(network, SHAPE)))(torch.randn(2, *SHAPE[1:])).shape[0] == 2


class Regions(nn.Module):
    """Layers under no_grad and where autocast is off, one region in another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y, z = self.first(x), self.first(x).relu()
            with torch.autocast("cpu", enabled=False):
                y = self.second(y) + z * torch.tensor([0.5])
        return y * z


def test_layers_in_regions_are_layers_as_others_are() -> None:
    assert require_same(Regions()) == {"conv2d", "relu", "add", "mul"}
    graph = normalized(trace(Regions(), SHAPE))
    names = {name for name, _ in graph.named_parameters() if not name.endswith("_stored")}
    assert names == {f"{layer}.{part}" for layer in ("first", "second") for part in ("weight", "bias")}


def counts(network: nn.Module) -> Counter[str]:
    require_same(network)
    return Counter(operator_name(one) for one in normalized(trace(network, SHAPE)).graph.nodes if one.op != "get_attr")


def test_what_is_computed_twice_of_the_same_is_computed_once() -> None:
    network = Passing(lambda self, x: self.layer(x).relu() * self.layer(x) + self.other(x), layer=nn.Conv2d(8, 4, 3))
    network.other = nn.Conv2d(8, 4, 3)
    found = counts(network)
    assert (found["conv2d"], found["relu"], found["mul"]) == (2, 1, 1)


def test_a_layer_that_reads_two_things_stays_two_layers() -> None:
    network = Passing(lambda self, x: self.layer(x) + self.layer(x.relu()), layer=nn.Conv2d(8, 4, 3))
    assert counts(network)["conv2d"] == 2


def test_outputs_stay_apart_and_random_numbers_are_drawn_each_time() -> None:
    graph = normalized(trace(Passing(lambda self, x: (x.relu(), x.relu())), SHAPE))
    assert len(set(output_nodes(graph))) == 2
    drawn = normalized(trace(Passing(lambda self, x: torch.rand_like(x) + torch.rand_like(x)), SHAPE))
    assert len([one for one in drawn.graph.nodes if operator_name(one) == "rand_like"]) == 2


def test_what_is_read_before_and_after_a_change_in_place_stays_two_values() -> None:
    def changing(self, x):
        h = x * 2
        before = h.abs()
        h[:, 0] = 5.0
        return before + h.abs()

    network = Passing(changing).eval()
    images = torch.rand(SHAPE)
    (found,) = forward(normalized(trace(network, SHAPE)), images)
    assert torch.equal(found, network(images))


def _add_to_a_channel(h: Tensor) -> Tensor:
    h[:, 0].add_(5.0)
    return h


def _set_a_channel(h: Tensor) -> Tensor:
    h[:, 0] = 5.0
    return h


def _set_rows_of_a_channel(h: Tensor) -> Tensor:
    h[:, -1, 2:-3] = h[:, 0, 2:-3].relu()
    return h


def _scale_some_channels(h: Tensor) -> Tensor:
    h[:, :3] *= 2
    return h


def _scale_all(h: Tensor) -> Tensor:
    h[:] *= 2
    return h


def _change_behind_a_view(h: Tensor) -> Tensor:
    before = h[:, :4]
    h.add_(5.0)
    return torch.cat([before, h[:, 4:]], 1)


def _change_a_view(h: Tensor) -> Tensor:
    h.view(h.shape[0], -1).mul_(2.0)
    return h


@pytest.mark.parametrize(
    "change",
    [
        *(_add_to_a_channel, _set_a_channel, _set_rows_of_a_channel, _scale_some_channels, _scale_all),
        *(_change_behind_a_view, _change_a_view),
    ],
)
def test_what_is_changed_in_place_through_a_view_is_changed_for_all_that_read_it(change) -> None:
    network = Passing(lambda self, x: self.norm(change(self.norm(self.layer(x)).relu())), layer=nn.Conv2d(8, 8, 3))
    network.norm = nn.BatchNorm2d(8)
    nn.init.uniform_(network.norm.running_var, 1.0, 2.0)
    assert require_same(network) <= {"conv2d", "batch_norm", "relu", "add", "mul", "view", *PIECES}


def test_autocast_that_is_on_is_refused() -> None:
    network = Passing(lambda self, x: torch.autocast("cpu", dtype=torch.bfloat16)(self.layer)(x).float())
    network.layer = nn.Conv2d(8, 4, 3)
    with pytest.raises(
        BadModel, match=r"computes part of itself in torch\.bfloat16 \(torch\.autocast in its forward\)"
    ):
        normalized(trace(network, SHAPE))


def test_a_mask_that_is_filled_place_by_place_is_stored() -> None:
    def masked(self, x):
        mask = x.new_zeros(x.shape[-1])
        for place in range(0, len(mask), 2):
            mask[place : place + 1] = place
        return x + mask.masked_fill(mask != 0, -3.0)

    assert require_same(Passing(masked)) == {"add"}


@pytest.mark.parametrize("shared", [True, False])
def test_a_prelu_of_one_slope_is_a_leaky_relu_and_of_several_a_sum(shared: bool) -> None:
    prelu = nn.PReLU(8)
    if not shared:
        prelu.weight.data.copy_(torch.linspace(-0.5, 1.5, 8))
    assert ("leaky_relu" in require_same(nn.Sequential(prelu))) == shared


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "more"), [(2, 2, 0, 0), (3, 2, 1, 1), (4, 2, 0, 1), (5, 3, 2, 2)]
)
def test_a_transposed_convolution_is_a_convolution(
    kernel: int, stride: int, padding: int, more: int, groups: int
) -> None:
    for bias, dilation in product((True, False), (1, 2)):
        layer = nn.ConvTranspose2d(8, 16, kernel, stride, padding, more, groups, bias, dilation)
        assert "conv_transpose2d" not in require_same(nn.Sequential(layer))


def test_a_transposed_convolution_of_stride_one_or_of_two_strides_is_one_too() -> None:
    assert "conv_transpose2d" not in require_same(nn.Sequential(nn.ConvTranspose2d(8, 4, (3, 2), (1, 2), (1, 0))))


@pytest.mark.parametrize("pad", [nn.ZeroPad2d(2), nn.ZeroPad2d((1, 1, 2, 2)), nn.ConstantPad2d(1, 0.0)])
def test_zeros_around_an_image_become_padding_of_its_convolutions(pad: nn.Module) -> None:
    network = Passing(
        lambda self, x: self.one(self.pad(x)) + self.two(self.pad(x)),
        pad=pad, one=nn.Conv2d(8, 4, 3, padding=1), two=nn.Conv2d(8, 4, 3, padding=1, bias=False),
    )  # fmt: skip
    assert require_same(network) == {"conv2d", "add"}


@pytest.mark.parametrize(
    "pad",
    [
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.ReflectionPad2d(1),
        nn.ReplicationPad2d(1),
        nn.ConstantPad2d(1, 0.5),
        nn.ZeroPad2d(-1),
    ],
)
def test_other_padding_stays(pad: nn.Module) -> None:
    assert "pad" in require_same(nn.Sequential(pad, nn.Conv2d(8, 4, 3)))


def test_padding_that_something_else_reads_too_stays() -> None:
    network = Passing(
        lambda self, x: self.one(y := functional.pad(x, (1, 1, 1, 1))) + y[:, :4, 1:-1, 1:-1], one=nn.Conv2d(8, 4, 3)
    )
    assert "pad" in require_same(network)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_weight_that_is_computed_each_time_is_stored(norm: Callable[[nn.Module], nn.Module]) -> None:
    network = nn.Sequential(norm(nn.Conv2d(8, 4, 3)), nn.ReLU()).eval()
    assert require_same(network) == {"conv2d", "relu"}


def test_a_weight_of_random_numbers_is_not_stored() -> None:
    network = Passing(lambda self, x: x + torch.rand(8, 1, 1))
    assert "rand" in operators(normalized(trace(network, SHAPE)))


@pytest.mark.parametrize("equation", ["bchw,oc->bohw", "bchw,co->bohw", "bchw,ow->bcho", "bchw , oc -> bhwo"])
def test_an_einsum_with_a_stored_matrix_is_a_linear_layer(equation: str) -> None:
    weight = torch.randn(*{"oc": (5, 8), "co": (8, 5), "ow": (5, 10)}[equation.replace(" ", "").split(",")[1][:2]])
    network = Passing(lambda self, x: torch.einsum(equation, x, self.weight))
    network.weight = nn.Parameter(weight)
    found = require_same(network)
    assert "linear" in found
    assert "einsum" not in found


@pytest.mark.parametrize("equation", ["bcid,bcjd->bcij", "bcid,bcdj->bcij", "b c i d, b c j d -> b c i j"])
def test_an_einsum_of_two_activations_over_their_last_axes_is_a_matrix_product(equation: str) -> None:
    turned = "jd" in equation.replace(" ", "")
    network = Passing(lambda self, x: torch.einsum(equation, x, x.relu() if turned else x.relu().mT))
    found = require_same(network)
    assert "matmul" in found
    assert "einsum" not in found


@pytest.mark.parametrize("equation", ["bcid,bcjd->bcji", "bcid,bcid->bc", "bcid,bkid->bck"])
def test_another_einsum_stays(equation: str) -> None:
    assert "einsum" in require_same(Passing(lambda self, x: torch.einsum(equation, x, x.relu())))


def test_products_with_a_stored_matrix_are_linear_layers() -> None:
    network = Passing(lambda self, x: torch.addmm(self.bias, (x @ self.weight).flatten(1), self.other))
    network.weight, network.bias = nn.Parameter(torch.randn(10, 4)), nn.Parameter(torch.randn(5))
    network.other = nn.Parameter(torch.randn(8 * 12 * 4, 5))
    assert {"matmul", "addmm", "mm"}.isdisjoint(require_same(network))


def test_a_product_of_two_activations_stays() -> None:
    assert "matmul" in require_same(Passing(lambda self, x: x @ x.mT))


def test_a_convolution_over_one_dimension_is_one_over_two() -> None:
    network = Passing(lambda self, x: self.one(x.flatten(2)), one=nn.Conv1d(8, 4, 3, 2, 1, groups=2))
    assert require_same(network) == {"flatten", "unsqueeze", "conv2d", "squeeze"}


def test_what_a_node_comes_from_stays_known() -> None:
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ConvTranspose2d(8, 4, 2, 2))
    graph = normalized(trace(network, SHAPE))
    (last,) = [
        n for n in graph.graph.nodes if operator_name(n) == "conv2d" and n.args[1].target == "1.convolution.weight"
    ]
    assert [path for path, _ in last.meta["nn_module_stack"].values()][-1].endswith("1")
