"""Which layers stay float, held against networks built to break in a known place and against the plan simulated."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgeslim.compress import fold
from edgeslim.compress.quantize import step as quantize
from edgeslim.compress.quantize.promote import promote, sensitivity
from edgeslim.compress.quantize.rounding import parameters
from edgeslim.grid import sqnr_db
from edgeslim.model.fake_quant import part_of, simulate
from edgeslim.model.graph import copy_of, layers_of, output_nodes, values_of
from edgeslim.model.numerics import Numerics
from edgeslim.progress import silent
from edgeslim.tasks import classification
from edgeslim.tasks.classification import agreement_pct
from tests.support.small_models import Passing, context, headed, model_of, random_images, randomized

CALIBRATION = random_images(16)
SELECTION = random_images(120, seed=7)
WHOLE = quantize.Settings(promote=False)


def with_a_head_that_breaks() -> nn.Module:
    """Return a classifier whose last layer weighs a constant a thousand times more than all that tells classes apart.

    The layer's scales, and its output's, are then too coarse for the rest.
    """

    def forward(self, x):
        return self.head((self.second(self.first(x).relu()) + self.beside(x)).relu())

    network = randomized(
        Passing(forward, first=nn.Conv2d(3, 6, 3, padding=1), second=nn.Conv2d(6, 6, 3, padding=1), head=headed())
    )
    with torch.no_grad():
        for conv in (network.first, network.second):
            conv.weight[0], conv.bias[0] = 0.0, 1.0
        network.head[2].weight[:, 0] = 1000.0
        network.head[2].bias -= network.head(torch.zeros(1, 6, 2, 2))[0].mean()
    network.beside = copy.deepcopy(network.first)
    return network


def planned(network: nn.Module):
    dense = fold.apply(model_of(network), fold.Settings(), context(CALIBRATION))
    return dense, quantize.apply(dense, WHOLE, context(CALIBRATION))


@pytest.fixture(scope="module")
def broken():
    return planned(with_a_head_that_breaks())


def found_for(pair, allowed=5.0, numerics=None, selection=SELECTION, store=None, progress=silent, **wishes):
    dense, quantized = pair
    return promote(
        dense.graph,
        quantized.graph,
        numerics or quantized.numerics,
        selection,
        classification,
        allowed,
        store,
        progress,
        **wishes,
    )


def answers_lost_pct(dense, plan) -> float:
    """Return how often a plan, simulated image by image, answers otherwise than the dense network."""
    images = torch.cat(list(SELECTION.tensors()))
    logits = output_nodes(dense.graph)[0].name
    wanted = values_of(dense.graph, images)[logits].numpy()
    return 100.0 - agreement_pct([wanted], [simulate(plan.graph, plan.numerics, [images])[logits].numpy()])


def test_the_one_layer_that_costs_the_answers_is_kept_float(broken):
    found = found_for(broken)
    assert found.layers == ("linear",)
    assert found.lost_before > 5.0 >= found.lost_after
    assert found.lost_without == {"linear": found.lost_before}, "without any layer kept it is the loss before"
    assert found.line(broken[1].numerics).startswith("kept float to lose ")
    assert "5 allowed: head.2 (as int8 " in found.line(broken[1].numerics)


def test_what_a_promotion_says_is_lost_is_what_the_plan_with_that_layer_float_loses(broken):
    dense, whole = broken
    found = found_for(broken)
    kept = quantize.apply(dense, replace(WHOLE, keep_float=(r"^head\.2$",)), context(CALIBRATION))
    written = kept.numerics.layers["linear"].output
    edges = {name: edge for name, edge in kept.numerics.edges.items() if name != written}  # no integer layer has it
    kept = replace(kept, numerics=Numerics(edges, kept.numerics.layers))
    assert found.lost_before == pytest.approx(answers_lost_pct(dense, whole), abs=0.9)  # one image of 120
    assert found.lost_after == pytest.approx(answers_lost_pct(dense, kept), abs=0.9)


def test_both_layers_beside_an_edge_that_costs_the_answers_are_kept_float_and_each_is_needed(broken):
    plan = broken[1].numerics
    between = plan.layers["conv2d_1"].inputs
    assert between == plan.layers["conv2d"].output, "the first two layers do not follow each other"
    coarse = {**plan.edges, between: replace(plan.edges[between], scale=plan.edges[between].scale * 1000)}
    found = found_for(broken, allowed=3.0, numerics=Numerics(coarse, plan.layers))
    assert found.lost_after <= 3.0 < found.lost_before
    assert {"conv2d", "conv2d_1"} <= set(found.layers), "the edge between them is rounded while one of them is int8"
    assert "conv2d_2" not in found.layers, "a layer that costs nothing is kept"
    assert all(lost > 3.0 for lost in found.lost_without.values()), "the demand is met without a layer that is kept"


def test_what_lies_between_layers_is_float_with_them_so_that_a_coarse_sum_is_saved_by_what_reads_it(broken):
    quantized = broken[1]
    edges = quantized.numerics.edges
    coarse = {
        name: replace(edge, scale=edge.scale * 1000) if name.startswith(("add", "relu_1", "mean")) else edge
        for name, edge in edges.items()
    }
    found = found_for(broken, numerics=Numerics(coarse, quantized.numerics.layers))
    assert found.lost_after <= 5.0 < found.lost_before
    assert found.layers == ("linear",), "what only a float layer reads is not read as codes"


def test_where_no_loss_at_all_is_allowed_and_more_is_gone_already_none_is_kept(broken):
    found = found_for(broken, allowed=-0.5)
    assert (found.layers, found.lost_after) == ((), 0.0), "with every layer float the network is another"
    assert "with every layer float it were 0.00, so none was kept float" in found.line(broken[1].numerics)


def test_a_layer_kept_float_has_int8_weights_where_the_demand_is_met_with_them(broken):
    quantized = broken[1]
    between = quantized.numerics.layers["conv2d_1"].inputs
    edges = quantized.numerics.edges
    coarse = {**edges, between: replace(edges[between], scale=edges[between].scale * 1000)}
    found = found_for(broken, 3.0, Numerics(coarse, quantized.numerics.layers), precisions=lambda _: ("w8",))
    assert {"conv2d", "conv2d_1"} <= set(found.cheaper), "what broke them was what they gave on"
    assert found.precisions == {name: found.cheaper.get(name, "fp32") for name in found.layers}
    assert found.lost_after <= 3.0
    whole = found_for(broken, 3.0, Numerics(coarse, quantized.numerics.layers), precisions=lambda _: ())
    assert (whole.layers, whole.cheaper) == (found.layers, {}), "the runtime would lose time by them"
    assert "with int8 weights all the same: first, second" in found.line(quantized.numerics)
    ranged = found_for(broken, 3.0, Numerics(coarse, quantized.numerics.layers))
    assert ranged.cheaper["conv2d"] == ranged.cheaper["conv2d_1"] == "dynamic", "what they give on is float then too"
    assert "and what they read ranged at run time: first, second" in ranged.line(quantized.numerics)


def test_a_plan_that_meets_the_demand_keeps_nothing_float():
    assert found_for(planned(randomized(headed(nn.Conv2d(3, 6, 3), nn.ReLU())))) is None


def test_labels_say_what_is_right_where_there_are_labels(broken):
    wrong = replace(SELECTION, targets=np.full(len(SELECTION), 99))  # no answer is right, so none can be lost
    assert found_for(broken, selection=wrong) is None


def test_what_was_found_is_kept_and_a_changed_network_or_demand_is_looked_at_anew(broken, tmp_path):
    def said(allowed, pair=broken) -> set[str]:
        heard = set()
        found_for(pair, allowed, store=tmp_path, progress=lambda doing, *_: heard.add(doing))
        return heard

    assert "which layers cost the accuracy" in said(5.0)
    assert said(5.0) == {"does int8 meet the demand"}, "it was sought again"
    assert found_for(broken, store=tmp_path) == found_for(broken)
    assert "which layers cost the accuracy" in said(6.0)
    dense, quantized = broken
    other = copy_of(quantized.graph)
    with torch.no_grad():
        parameters(other, layers_of(other)["linear"])[1].add_(1e-3)
    assert "which layers cost the accuracy" in said(5.0, (dense, replace(quantized, network=other)))


def test_a_layer_alone_loses_what_the_plan_of_it_alone_does_and_the_broken_one_most(broken, tmp_path):
    dense, quantized = broken
    found = sensitivity(dense.graph, quantized.graph, quantized.numerics, SELECTION, classification, tmp_path, silent)
    assert [one.layer for one in found[::2]] == quantized.numerics.integer_layers
    assert [one.precision for one in found] == ["int8", "w8"] * len(quantized.numerics.layers)
    assert max(found, key=lambda one: one.lost.points).layer == "linear"
    images = torch.cat(list(SELECTION.tensors()))
    logits = output_nodes(dense.graph)[0].name
    wanted = values_of(dense.graph, images)[logits].numpy()
    for one in found:
        alone = copy_of(dense.graph)
        with torch.no_grad():
            for old, new in zip(
                parameters(alone, layers_of(alone)[one.layer]),
                parameters(quantized.graph, layers_of(quantized.graph)[one.layer]),
                strict=True,
            ):
                old.copy_(new)
        plan = part_of(quantized.numerics, [one.layer])
        plan = plan if one.precision == "int8" else Numerics({}, plan.layers)
        got = simulate(alone, plan, [images])[logits].numpy()
        assert one.sqnr_db == pytest.approx(sqnr_db(wanted, got), abs=0.3), one.layer
    again = sensitivity(dense.graph, quantized.graph, quantized.numerics, SELECTION, classification, tmp_path, silent)
    assert again == found, "the kept results are others"


def test_what_is_kept_for_one_order_of_precisions_is_not_taken_for_another(broken, tmp_path):
    by_time, by_rule = (
        found_for(broken, store=tmp_path, precisions=lambda _, kinds=kinds: kinds) for kinds in (("fp16",), ())
    )
    assert set(by_time.cheaper.values()) == {"fp16"}
    assert by_rule.cheaper == {}
    assert by_rule.layers == by_time.layers
