"""A pruned network computes what the dense one computes without the channels it was told to remove."""

import importlib.util
import random
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import fx, nn

from edgeslim.compress.prune.channels import Channels, channels_of, cut, legal_widths, without
from edgeslim.errors import BadInput, Refused
from edgeslim.model.graph import copy_of, graph_of, layers_of, operator_name, parameter, program_of, trace
from edgeslim.model.sources.torchvision import torchvision_models
from tests.support.pruning_oracle import assert_pruned_rightly, distinct, rows_removed, tensors_of
from tests.support.random_networks import BLOCKS, SELDOM, around, networks, shuffle
from tests.support.small_models import CLASSES, SIDE, Passing, headed, normalized_layers, plain

SHAPE = (1, 3, SIDE, SIDE)
needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="torchvision is not installed; pip install 'edgeslim[torchvision]'",
)


def traced(network: nn.Module, shape: tuple[int, ...] = SHAPE) -> fx.GraphModule:
    return trace(distinct(network), shape)


def noise(shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def removal(channels: Channels, chance: random.Random, heavy: bool = False) -> dict[str, list[int]]:
    """Choose channels of every group; heavy: all but one."""
    widths = {name: group.width for name, group in channels.groups.items()}
    return {
        name: chance.sample(range(width), width - 1 if heavy else chance.randrange(width))
        for name, width in widths.items()
    }


# --- the oracle itself: it must accept a right pruning, made by hand, and catch wrong ones


def residual() -> nn.Module:
    """A stem, a residual block of two convolutions around it, and a head over the mean."""
    return Passing(
        lambda self, x: self.head((self.norm(y := self.stem(x)) + self.last(self.first(y).relu())).mean((2, 3))),
        stem=nn.Conv2d(3, 6, 3),
        norm=nn.BatchNorm2d(6),
        first=nn.Conv2d(6, 4, 1),
        last=nn.Conv2d(4, 6, 3, padding=1),
        head=nn.Linear(6, CLASSES),
    )


STREAM = {"stem": (0,), "norm": (0,), "first": (1,), "last": (0,), "head": (1,)}  # where its channels lie


def narrowed(dense: fx.GraphModule, places: Mapping[str, tuple[int, ...]], kept: list[int]) -> fx.GraphModule:
    """Return a copy with some indices kept along some axes of what some modules hold."""
    pruned = copy_of(dense)
    with torch.no_grad():
        for name, value in tensors_of(dense).items():
            module, _, kind = name.rpartition(".")
            for axis in places.get(module, ()):
                if value.dim() > axis and (axis == 0 or kind == "weight"):
                    tensors_of(pruned)[name].set_(value.index_select(axis, torch.tensor(kept)))
    return pruned


def test_the_oracle_accepts_channels_removed_by_hand():
    dense = traced(residual())
    pruned = narrowed(dense, STREAM, [0, 2, 3, 5])
    assert_pruned_rightly(dense, pruned, noise())
    assert rows_removed(dense, pruned) == {"stem": {1, 4}, "last": {1, 4}, "first": set(), "head": set()}


def swap(graph: fx.GraphModule, name: str, axis: int) -> None:
    """Exchange the first two indices of a tensor."""
    value = tensors_of(graph)[name]
    value.data.copy_(value.data.index_select(axis, torch.tensor([1, 0, *range(2, value.shape[axis])])))


@pytest.mark.parametrize(
    ("name", "axis"),
    [("first.weight", 1), ("head.weight", 1), ("stem.bias", 0), ("norm.running_var", 0), ("last.weight", 0)],
)
def test_the_oracle_catches_two_exchanged_channels_of_one_tensor(name, axis):
    dense = traced(residual())
    pruned = narrowed(dense, STREAM, [0, 2, 3, 5])
    swap(pruned, name, axis)
    with pytest.raises(AssertionError, match=f"holds the values of other channels|{name.split('.')[0]}|not close"):
        assert_pruned_rightly(dense, pruned, noise())


def test_the_oracle_catches_a_residual_branch_that_lost_another_channel():
    dense = traced(residual())
    pruned = narrowed(dense, {**STREAM, "last": ()}, [0, 2, 3, 5])
    other = narrowed(dense, {"last": (0,)}, [1, 2, 3, 5])
    for kind in ("weight", "bias"):
        tensors_of(pruned)[f"last.{kind}"].data = tensors_of(other)[f"last.{kind}"].data
    pruned(noise())
    with pytest.raises(AssertionError, match=r"linear: `head\.weight` has shape \(4, 4\), but .* leaves \(4, 3\)"):
        assert_pruned_rightly(dense, pruned, noise())


def write_sizes(graph: fx.GraphModule, views: Sequence[fx.Node], sizes: Sequence[list[int]]) -> None:
    for node, size in zip(views, sizes, strict=True):
        node.args = (node.args[0], size)
    graph.recompile()


def test_the_oracle_catches_sizes_that_are_right_over_operators_that_are_wrong():
    dense = traced(headed(nn.Conv2d(3, 6, 3), shuffle(2)))
    pruned = narrowed(narrowed(dense, {"0": (0,)}, [0, 1, 3, 4]), {"4": (1,)}, [0, 1, 2, 3])
    views = [node for node in pruned.graph.nodes if "view" in node.name]
    right, wrong = ([1, 2, 2, 6, 6], [1, 4, 6, 6]), ([1, 4, 1, 6, 6], [1, 4, 6, 6])  # which interleaves nothing
    write_sizes(pruned, views, right)
    assert_pruned_rightly(dense, pruned, noise())
    write_sizes(pruned, views, wrong)
    with pytest.raises(AssertionError, match="not close"):
        assert_pruned_rightly(dense, pruned, noise())


# --- every structure, at random


# Not shrunk: every attempt exports a network, and hypothesis would try for minutes.
@pytest.mark.parametrize("block", BLOCKS)
@settings(max_examples=4, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(data=st.data())
def test_a_pruned_network_is_the_dense_one_without_the_removed_channels(block, data):
    network, shape = data.draw(networks(block))
    chance = random.Random(data.draw(st.integers(0, 999)))
    dense, image = traced(network, shape), noise(shape)
    channels = channels_of(dense)
    assert_pruned_rightly(dense, cut(dense, channels, removal(channels, chance, heavy=True)), image)
    pruned = without(dense, channels, removal(channels, chance))
    assert_pruned_rightly(dense, pruned, image)
    with torch.no_grad():
        torch.testing.assert_close(graph_of(program_of(pruned, image))(image), pruned(image))


# --- one network of every family of torchvision's classifiers, each as small as its family allows


def family_member(name: str) -> nn.Module:
    """Return a classifier without the time its initialization takes; hidden linear layers become narrow."""
    models = torchvision_models()
    rescaling = {"init_weights": False, "transform_input": True} if name in ("googlenet", "inception_v3") else {}
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # RegNet computes its widths with tensors
        if name == "resnext":
            network = models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], CLASSES, groups=32, width_per_group=4)
        elif name == "wide_resnet":
            network = models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], CLASSES, width_per_group=128)
        elif name == "densenet":
            network = models.DenseNet(32, (2, 2, 2, 2), num_classes=CLASSES)
        else:
            network = models.get_model(name, weights=None, num_classes=CLASSES, **rescaling)
        if name in ("alexnet", "vgg11_bn"):
            for place, layer in enumerate(network.classifier):
                if isinstance(layer, nn.Linear):
                    inputs, outputs = (32 if size == 4096 else size for size in (layer.in_features, layer.out_features))
                    network.classifier[place] = nn.Linear(inputs, outputs)
    return distinct(network.to_empty(device="cpu"))


# A family and the side of an input it takes; how many layers cannot become narrower: the one that gives the logits,
# and in ShuffleNet those whose channels several shuffles have tied to all others of a stage.
FAMILIES = [
    ("alexnet", 64, 1), ("vgg11_bn", 32, 1), ("resnet18", 32, 1), ("resnext", 32, 1), ("wide_resnet", 32, 1),
    ("densenet", 32, 1), ("googlenet", 32, 1), ("inception_v3", 75, 1), ("mobilenet_v2", 32, 1),
    ("mobilenet_v3_small", 32, 1), ("mnasnet0_5", 32, 1), ("shufflenet_v2_x0_5", 32, 6), ("squeezenet1_0", 32, 1),
    ("efficientnet_b0", 32, 1), ("regnet_y_400mf", 32, 1),
]  # fmt: skip


@needs_torchvision
@pytest.mark.parametrize(("family", "side", "fixed"), FAMILIES, ids=[family for family, *_ in FAMILIES])
def test_half_of_all_channels_can_be_removed_from_every_convolutional_family(family, side, fixed):
    shape = (1, 3, side, side)
    dense = trace(family_member(family), shape)
    channels = channels_of(dense)
    chance = random.Random(0)
    halves = {name: chance.sample(range(g.width), g.width // 2) for name, g in channels.groups.items()}
    pruned = cut(dense, channels, halves)
    assert_pruned_rightly(dense, pruned, noise(shape))
    before, after = tensors_of(dense), tensors_of(pruned)
    weights = {str(node.args[1].target) for node in layers_of(dense).values()}
    whole = sorted(name for name in weights if len(after[name]) == len(before[name]))
    assert len(whole) == fixed, f"layers that kept all their channels: {whole}"


# --- which channels go together, and what an index means


def chained(*layers: nn.Module) -> nn.Module:
    return headed(*layers, width=layers[-1].out_channels)


def excited() -> nn.Module:
    return Passing(
        lambda self, x: self.head((self.expand(self.squeeze(x := self.stem(x)).relu()).sigmoid() * x).mean((2, 3))),
        stem=nn.Conv2d(3, 6, 1),
        squeeze=nn.Conv2d(6, 2, 1),
        expand=nn.Conv2d(2, 6, 1),
        head=nn.Linear(6, CLASSES),
    )


def two_halves() -> nn.Module:
    """A stream cut in two; each half is read by a layer of its own."""
    return Passing(
        lambda self, x: self.head(
            (self.left(self.stem(x).chunk(2, 1)[0]) + self.right(self.stem(x)[:, 4:])).mean((2, 3))
        ),
        stem=nn.Conv2d(3, 8, 1),
        left=nn.Conv2d(4, 5, 1),
        right=nn.Conv2d(4, 5, 1),
        head=nn.Linear(5, CLASSES),
    )


STRUCTURES = {
    "a chain": (plain(), {"0": 6}, {"0": [1, 5]}, {"0": {1, 5}}),
    "the layer of the logits": (headed(nn.Identity(), width=3), {}, {}, {}),
    "a residual sum": (residual(), {"stem": 6, "first": 4}, {"stem": [0, 5]}, {"stem": {0, 5}, "last": {0, 5}}),
    "a depthwise layer": (
        chained(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, groups=4)), {"0": 4}, {"0": [2]}, {"0": {2}, "1": {4, 5}},
    ),
    "a grouped layer": (
        chained(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=4)),
        {"0": 2, "1": 3}, {"0": [1], "1": [0]}, {"0": {1, 3, 5, 7}, "1": {0, 3, 6, 9}},
    ),
    "a shuffle": (headed(nn.Conv2d(3, 8, 1), shuffle(2), width=8), {"0": 4}, {"0": [1, 2]}, {"0": {1, 2, 5, 6}}),
    "a gate for each channel": (
        excited(), {"stem": 6, "squeeze": 2}, {"stem": [3], "squeeze": [0]},
        {"stem": {3}, "squeeze": {0}, "expand": {3}},
    ),
    "one layer used twice": (
        headed(nn.Conv2d(3, 6, 1), Passing(lambda self, x: self.same(self.same(x)), same=nn.Conv2d(6, 6, 1))),
        {"0": 6}, {"0": [4]}, {"0": {4}, "1.same": {4}},
    ),
    "features of all places": (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * SIDE * SIDE, 5), nn.Linear(5, CLASSES)),
        {"0": 4, "2": 5}, {"0": [0], "2": [4]}, {"0": {0}, "2": {4}},
    ),
    "two halves": (
        two_halves(), {"stem": 4, "stem#2": 4, "left": 5}, {"stem": [0], "stem#2": [1, 2], "left": [3]},
        {"stem": {0, 5, 6}, "left": {3}, "right": {3}},
    ),
    "the ends of a stream": (
        headed(nn.Conv2d(3, 8, 1), Passing(lambda self, x: x[:, -6:])), {"0": 2, "0#2": 6}, {"0#2": [0]}, {"0": {2}},
    ),
    "a gate for all channels": (
        headed(nn.Conv2d(3, 6, 1), Passing(lambda self, x: x * self.gate(x), gate=nn.Conv2d(6, 1, 1))),
        {"0": 6}, {"0": [2]}, {"0": {2}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("network", "widths", "removed", "lost"), STRUCTURES.values(), ids=STRUCTURES)
def test_channels_that_depend_on_each_other_form_one_group_and_go_from_all_its_layers(network, widths, removed, lost):
    dense = traced(network)
    channels = channels_of(dense)
    assert {name: group.width for name, group in channels.groups.items()} == widths
    pruned = without(dense, channels, removed)
    assert {name: rows for name, rows in rows_removed(dense, pruned).items() if rows} == lost
    assert_pruned_rightly(dense, pruned, noise())


def test_nothing_removed_leaves_the_network_as_it_is_and_removing_leaves_the_dense_one_alone():
    dense = traced(residual())
    before = {name: value.clone() for name, value in tensors_of(dense).items()}
    channels = channels_of(dense)
    for pruned in (without(dense, channels, {}), cut(dense, channels, {"stem": [1]})):
        torch.testing.assert_close(tensors_of(dense), before, rtol=0, atol=0)
        assert rows_removed(dense, pruned)["stem"] <= {1}
    torch.testing.assert_close(without(dense, channels, {})(noise()), dense(noise()))


@pytest.mark.parametrize("remove", [cut, without])
def test_a_layer_under_two_names_leaves_no_dense_weights_behind(remove):
    dense = traced(headed(nn.Conv2d(3, 6, 1), *[nn.Conv2d(6, 6, 1)] * 2))
    pruned = remove(dense, channels_of(dense), {"0": [4]})
    assert_pruned_rightly(dense, pruned, noise())
    read = {id(parameter(pruned, node)) for node in pruned.graph.nodes if node.op == "get_attr" and node.users}
    unread = [name for name, value in pruned.named_parameters() if id(value) not in read]
    assert not unread, f"weights that nothing reads travel along: {unread}"


# --- operators that networks seldom have: pruned rightly, or refused by name


@pytest.mark.parametrize("network", SELDOM.values(), ids=SELDOM)
def test_what_is_seldom_is_refused_by_name_or_pruned_rightly(network):
    dense, chance = traced(network), random.Random(0)
    try:
        channels = channels_of(dense)
    except Refused as refusal:
        message, channels = str(refusal), None
    if channels is None:
        assert any(f"`{node.name}`" in message for node in dense.graph.nodes), f"it names no node: {message}"
        return
    for heavy in (False, False, False, True):
        assert_pruned_rightly(dense, cut(dense, channels, removal(channels, chance, heavy)), noise())


# --- what mixes channels


def transformer(family: str) -> nn.Module:
    """Return a torchvision network of a family with attention or LayerNorm, with as little in it as it takes."""
    models = torchvision_models()
    if family == "vit":
        return models.VisionTransformer(SIDE, 4, 1, 2, 8, 8, num_classes=CLASSES)
    if family == "swin":
        return models.SwinTransformer([2, 2], 8, [1, 1], [2, 2], [2, 2], num_classes=CLASSES)
    return models.ConvNeXt([models.convnext.CNBlockConfig(8, None, 2)], num_classes=CLASSES)


def group_normalized() -> nn.Module:
    return headed(nn.Conv2d(3, 6, 1), nn.GroupNorm(2, 6))


MIXING = {
    "LayerNorm": normalized_layers,
    "GroupNorm": group_normalized,
    "softmax": lambda: around(lambda x: x.softmax(1), 8),
    "matmul": lambda: around(lambda x: x @ x.mT, 8),
    "unknown": lambda: around(lambda x: x.cumsum(1), 8),
}


@pytest.mark.parametrize("make", MIXING.values(), ids=MIXING)
def test_channels_that_an_operator_mixes_stay(make):
    dense = traced(make())
    activations = channels_of(dense).labels.activations
    mixing = {"layer_norm", "group_norm", "softmax", "matmul", "cumsum"}
    (mixed, *_) = [node for node in dense.graph.nodes if operator_name(node) in mixing]
    for name in (mixed.name, *(node.name for node in mixed.all_input_nodes if node.op != "get_attr")):
        assert not activations[name].any(), f"channels of {name} may go"


def test_the_convolutions_beside_a_norm_that_mixes_channels_are_pruned():
    mixed = nn.Sequential(nn.Conv2d(3, 6, 1), nn.GroupNorm(2, 6), nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1))
    dense = traced(headed(*mixed))
    pruned = cut(dense, channels_of(dense), {"2": [1, 4]})
    assert_pruned_rightly(dense, pruned, noise())


@needs_torchvision
@pytest.mark.parametrize("family", ["vit", "swin", "convnext"])
def test_of_a_family_with_attention_or_layer_norm_the_hidden_channels_are_pruned(family):
    dense, chance = traced(transformer(family)), random.Random(0)
    channels = channels_of(dense)
    assert channels.groups, "nothing can be pruned"
    assert_pruned_rightly(dense, cut(dense, channels, removal(channels, chance, heavy=False)), noise())


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ({"0": range(6)}, "`0` would vanish: all of its 6 channels"),
        ({"0": [0, 1, 2, 3, 4, 5, 5]}, "`0` would vanish"),
        ({"0": [6]}, "`0` has 6 channels, 0 to 5; there is no 6"),
        ({"0": [-1]}, "`0` has 6 channels, 0 to 5; there is no -1"),
        ({"1": [0]}, "no group of channels `1`"),
        ({"zero": []}, "no group of channels `zero`"),
    ],
)
def test_a_removal_that_cannot_be_is_refused_with_the_name_of_its_group(removed, message):
    dense = traced(plain())
    with pytest.raises(BadInput, match=message):
        without(dense, channels_of(dense), removed)


def test_a_stored_number_without_axes_is_no_hindrance():
    network = Passing(lambda self, x: self.head(self.stem(x) * self.factor), stem=nn.Conv2d(3, 6, 1), head=headed())
    network.factor = nn.Parameter(torch.tensor(1.5))
    channels = channels_of(traced(network))
    assert legal_widths(channels, "stem", 2) == [6, 4, 2]
