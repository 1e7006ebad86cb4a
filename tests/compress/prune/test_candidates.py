"""A candidate is a plan made real: fewer channels, weights fitted, and an honest word on what it loses."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeslim.cache import graph_sha256
from edgeslim.compress.prune.blocks import blocks_of
from edgeslim.compress.prune.candidates import Judge, PrunedNetwork, candidate, masked, surviving_rows, widened
from edgeslim.compress.prune.channels import channels_of
from edgeslim.compress.prune.curves import Images
from edgeslim.compress.prune.workbench import images_of
from edgeslim.errors import ToolFailed
from edgeslim.model.equivalence import require_equal
from edgeslim.model.graph import batched, trace
from edgeslim.tasks import classification
from edgeslim.tasks.task import Drop
from tests.support.small_models import SIDE, WIDE, random_images, randomized, residual

CALIBRATION, SELECTION = images_of(random_images(96)), images_of(random_images(160, seed=1))


def opened(network: nn.Module):
    dense = batched(trace(randomized(network), (1, 3, SIDE, SIDE)))
    return dense, channels_of(dense)


def made(dense, channels, removed, store=None, start=None) -> PrunedNetwork:
    start = dense if start is None else start
    hashes = f"{graph_sha256(dense)} {graph_sha256(start)}"
    return candidate(
        dense, start, channels, removed, (), CALIBRATION, Judge(dense, SELECTION, classification), hashes, store
    )


def thirds(channels) -> dict[str, list[int]]:
    return {name: list(range(1, group.width, 3)) for name, group in channels.groups.items()}


@pytest.mark.parametrize("make", WIDE)
@torch.no_grad()
def test_a_candidate_in_the_dense_shapes_computes_what_the_candidate_does(make):
    dense, channels = opened(make())
    one = made(dense, channels, thirds(channels))
    wide = widened(one, dense, channels)
    for name, value in dense.state_dict().items():
        assert wide.state_dict()[name].shape == value.shape
    for batch in SELECTION.batches:
        torch.testing.assert_close(wide(batch), one.graph(batch), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(wide(batch), dense(batch), atol=1e-3), "nothing was lost, so this is no test"


@torch.no_grad()
def test_a_candidate_without_a_block_is_masked_without_it_too():
    dense, channels = opened(residual())
    (block,) = blocks_of(dense).values()
    hashes = graph_sha256(dense)
    judge = Judge(dense, SELECTION, classification)
    one = candidate(dense, dense, channels, {"stem.0": [0, 5]}, [block], CALIBRATION, judge, hashes, None)
    require_equal("prune", masked(one, dense, channels), one.graph, SELECTION.batches[0])


def test_a_cut_that_does_not_compute_what_it_stands_for_is_refused_by_its_layer():
    dense, channels = opened(residual())
    one, other = made(dense, channels, {"stem.0": [0, 1]}), made(dense, channels, {"stem.0": [2, 3]})
    with pytest.raises(ToolFailed, match=r"prune changed what the network computes: .* part at `conv2d` \(module stem"):
        require_equal("prune", masked(one, dense, channels), other.graph, SELECTION.batches[0])


def test_a_candidate_made_from_a_widened_one_starts_from_its_weights():
    dense, channels = opened(residual())
    first = made(dense, channels, {"stem.0": [0, 1]})
    start = widened(first, dense, channels)
    again = made(dense, channels, {"stem.0": [0, 1]}, start=start)
    afresh = made(dense, channels, {"stem.0": [0, 1]})
    assert torch.equal(afresh.graph.state_dict()["head.2.weight"], first.graph.state_dict()["head.2.weight"])
    assert not torch.equal(again.graph.state_dict()["head.2.weight"], first.graph.state_dict()["head.2.weight"])


def test_groups_from_which_nothing_is_removed_are_not_named():
    dense, channels = opened(residual())
    one = made(dense, channels, {"stem.0": [], "first.0": np.array([3, 1])})
    assert one.removed == {"first.0": [1, 3]}


@torch.no_grad()
def test_what_was_made_before_comes_from_the_store_as_it_was(tmp_path):
    dense, channels = opened(residual())
    one = made(dense, channels, thirds(channels), tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert sorted(path.parent.name for path in kept) == ["candidate", "judged"]
    again = made(dense, channels, thirds(channels), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == kept
    assert all(torch.equal(value, one.graph.state_dict()[name]) for name, value in again.graph.state_dict().items())
    assert again.drop == one.drop


@torch.no_grad()
def test_an_image_counts_as_right_by_its_label_or_by_the_dense_networks_answer():
    dense, channels = opened(residual())
    one = made(dense, channels, thirds(channels))
    answers, wanted = (
        torch.cat([graph(batch) for batch in SELECTION.batches]).argmax(1).numpy() for graph in (one.graph, dense)
    )
    assert (Judge(dense, SELECTION, classification).marks(one.graph) == 100.0 * (answers == wanted)).all()
    assert Judge(dense, SELECTION, classification).marks(dense).all()
    labels = np.arange(160) % 4
    labelled = Images(SELECTION.batches, "labelled", labels)
    assert (Judge(dense, labelled, classification).marks(one.graph) == 100.0 * (answers == labels)).all()
    lost = 100 * float((answers != wanted).mean())
    assert one.drop == Drop(pytest.approx(lost), one.drop.at_most)
    assert one.drop.at_most > lost > 0


@torch.no_grad()
def test_an_answer_with_nan_is_no_answer():
    dense, _ = opened(residual())
    labels = np.zeros(len(torch.cat(SELECTION.batches)), np.int64)
    dense.get_parameter("head.2.bias")[2] = float("nan")
    assert not Judge(dense, Images(SELECTION.batches, "labelled", labels), classification).marks(dense).any()


def test_the_rows_of_every_parameter_that_stay_are_named():
    _, channels = opened(residual())
    rows = surviving_rows(channels, {"stem.0": [0, 31]})
    assert rows["stem.0.weight"].tolist() == list(range(1, 31))
    assert rows["stem.1.running_mean"].tolist() == list(range(1, 31))
    assert rows["first.0.weight"].tolist() == list(range(32))
    assert rows["head.2.weight"].tolist() == list(range(4))
