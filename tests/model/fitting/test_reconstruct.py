"""What a pruned network gets back: outputs nearer to the dense ones, and the statistics that batch norms had."""

import weakref

import pytest
import torch
from torch import Tensor, nn

from edgeslim.compress.prune.channels import channels_of, cut, surviving_rows
from edgeslim.compress.prune.workbench import images_of
from edgeslim.errors import BadModel
from edgeslim.model.fitting.reconstruct import reconstruct, side_by_side
from edgeslim.model.graph import batched, layers_of, trace
from tests.support.small_models import SIDE, WIDE, flattened, headed, random_images, randomized, residual, shared

IMAGES = images_of(random_images(192)).batches
OTHERS = images_of(random_images(192, seed=1)).batches


class Case:
    """A dense network and the same without some channels: every fourth of each group where nothing else is said."""

    def __init__(self, network: nn.Module, removed=None) -> None:
        self.dense = batched(trace(network, (1, 3, SIDE, SIDE)))
        self.channels = channels_of(self.dense)
        every_fourth = {name: list(range(0, one.width, 4)) for name, one in self.channels.groups.items()}
        self.removed = every_fourth if removed is None else removed
        self.pruned = cut(self.dense, self.channels, self.removed)

    def reconstruct(self, images=IMAGES) -> list[str]:
        return reconstruct(self.dense, self.pruned, surviving_rows(self.channels, self.removed), images)

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.pruned.state_dict().items()}

    @torch.no_grad()
    def error(self, images=OTHERS) -> float:
        """Return the squared error of the pruned network's answers relative to the variance of the dense one's."""
        dense, pruned = (torch.cat([graph(batch) for batch in images]) for graph in (self.dense, self.pruned))
        return float((dense - pruned).square().mean() / dense.var(0).mean())


def test_two_equal_networks_stay_equal_bit_by_bit():
    case = Case(randomized(residual()), removed={})
    before = case.state()
    assert case.reconstruct() == []
    assert all(torch.equal(value, before[name]) for name, value in case.pruned.state_dict().items())


@pytest.mark.parametrize("make", WIDE)
def test_the_answers_come_nearer_to_the_dense_ones_on_images_never_seen(make):
    case = Case(randomized(make()))
    without = case.error()
    case.reconstruct()
    assert case.error() < 0.5 * without


def test_a_channel_that_another_one_tells_as_well_goes_without_loss():
    network = randomized(headed(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.ReLU()))
    with torch.no_grad():
        network[0].weight[3] = 2 * network[0].weight[5]
        network[0].bias[3] = 2 * network[0].bias[5] + 1
    needless, needed = Case(network, {"0": [3]}), Case(network, {"0": [2]})
    assert needless.error() > 0.1
    needless.reconstruct()
    needed.reconstruct()
    assert needless.error() < 1e-4
    assert needed.error() > 1e-3, "every channel can be told from the others, so this is no test"


def statistics(graph, name: str) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of a node over the calibration images."""
    seen = []

    class Watching(torch.fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if n.name == name:
                seen.append(value)
            return value

    with torch.no_grad():
        for batch in IMAGES:
            Watching(graph).run(batch)
    values = torch.cat(seen).transpose(0, 1).flatten(1)
    return values.mean(1), values.std(1)


@pytest.mark.parametrize("norm", ["batch_norm", "batch_norm_1"])
def test_what_leaves_a_batch_norm_has_the_dense_mean_and_variance(norm):
    case = Case(randomized(residual()))
    case.reconstruct()
    kept = torch.tensor([i for i in range(32) if i % 4])
    for dense, pruned in zip(statistics(case.dense, norm), statistics(case.pruned, norm), strict=True):
        torch.testing.assert_close(pruned, dense[kept], rtol=1e-3, atol=1e-3)


def test_a_layer_and_a_batch_norm_that_are_used_twice_keep_their_values():
    case = Case(randomized(shared()))
    before = case.state()
    assert {node.args[1].target for node in layers_of(case.pruned).values()} == {
        "stem.0.weight",
        "body.0.weight",
        "head.2.weight",
    }, "no layer is used twice"
    case.reconstruct()
    for name, value in case.pruned.state_dict().items():
        if name.startswith("body"):
            assert torch.equal(value, before[name]), f"{name} was fitted to one of its two uses"
        if name == "head.2.weight":
            assert not torch.equal(value, before[name]), "what is used once was not fitted"


def test_a_layer_without_bias_or_norm_behind_it_is_fitted_to_its_outputs_and_not_to_their_changes():
    network = randomized(headed(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 6, 3, bias=False), nn.ReLU()))
    case = Case(network, {"0": list(range(8))})
    case.reconstruct()
    means = [statistics(graph, "conv2d_1")[0] for graph in (case.dense, case.pruned)]
    deviation = statistics(case.dense, "conv2d_1")[1]
    assert ((means[0] - means[1]).abs() < 0.2 * deviation).all()


def test_weights_that_are_nan_are_refused():
    network = randomized(residual())
    with torch.no_grad():
        network.stem[0].weight[1, 0, 0, 0] = float("nan")
    with pytest.raises(BadModel, match="`conv2d` became NaN or infinite on a calibration image"):
        Case(network).reconstruct()


def test_activations_that_overflow_are_refused():
    network = randomized(residual())
    with torch.no_grad():
        network.first[0].weight *= 1e38
    with pytest.raises(BadModel, match=r"`conv2d_\d` became NaN or infinite on a calibration image"):
        Case(network).reconstruct()


def test_too_few_images_are_remarked_and_change_what_they_do_not_determine_only_a_little():
    case = Case(randomized(flattened()))
    without = case.error()
    few = [batch[:8] for batch in IMAGES[:2]]
    (remark,) = [line for line in case.reconstruct(few) if line.startswith("linear:")]
    assert remark.startswith("linear: 16 rows for 192 inputs; fitted with ridge ")
    assert case.error() < without
    assert not Case(randomized(residual())).reconstruct(), "enough images are remarked too"


def test_images_that_are_all_alike_leave_a_network_that_still_answers():
    case = Case(randomized(residual()))
    case.reconstruct([torch.full((32, 3, SIDE, SIDE), 0.3)] * 2)
    assert torch.isfinite(case.pruned(OTHERS[0])).all()


def test_of_networks_that_do_not_differ_only_one_is_computed():
    dense = batched(trace(randomized(residual()), (1, 3, SIDE, SIDE)))
    (wanted,), (got,) = side_by_side(dense, dense, IMAGES, lambda *_: pytest.fail("there is nothing to adjust"))
    assert all(a is b for a, b in zip(wanted, got, strict=True))
    torch.testing.assert_close(wanted[0], dense(IMAGES[0]))


def test_what_no_later_node_reads_is_freed():
    layers = [part for _ in range(6) for part in (nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())]
    case = Case(randomized(headed(nn.Conv2d(3, 6, 3), *layers)), {"0": [1]})
    seen: list[weakref.ref] = []
    alive = []  # of the values looked at before; a view keeps what it looks into

    def watch(node, entering, dense_entering, wanted) -> None:
        alive.append(sum(ref() is not None for ref in seen))
        seen.extend(weakref.ref(values[0]) for values in (entering, dense_entering, wanted))

    (wanted,), (got,) = side_by_side(case.dense, case.pruned, IMAGES, watch)
    assert len(alive) > 12
    assert max(alive) <= 6, f"values of earlier nodes are still there: {alive}"
    assert len(wanted) == len(got) == len(IMAGES)
