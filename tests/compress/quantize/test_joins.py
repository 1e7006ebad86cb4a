"""Inputs of concatenations keep scales of their own where the outputs then come nearer to the float ones."""

import torch
from torch import Tensor, nn

from edgeslim.model.equivalence import worst_db
from edgeslim.model.fake_quant import simulate
from edgeslim.model.graph import as_arrays, forward, joined, output_nodes
from edgeslim.model.model import Model
from tests.compress.quantize.test_step import IMAGES, quantized
from tests.support.small_models import Passing, randomized


def closeness_db(model: Model, reference: nn.Module) -> float:
    """Return the SQNR of the plan's simulated outputs against a float network's."""
    images = list(IMAGES.tensors())
    found = simulate(model.graph, model.numerics, images)
    wanted = joined(forward(reference, image) for batch in images for image in batch.split(1))
    return worst_db(as_arrays(wanted), [found[node.name].numpy() for node in output_nodes(model.graph)])


def pooled_beside(factor: float) -> nn.Module:
    """A pooled image beside a convolution whose numbers are so many times as large, then what weighs them alike."""

    def forward_(self: nn.Module, x: Tensor) -> Tensor:
        both = torch.cat([self.conv(x), self.pool(x)], 1)
        return self.head((both * self.weighing).relu().mean((2, 3)))

    modules = {"conv": nn.Conv2d(3, 13, 3, 2, 1), "pool": nn.MaxPool2d(2), "head": nn.Linear(16, 4)}
    network = randomized(Passing(forward_, **modules))
    network.weighing = nn.Buffer(torch.ones(1, 16, 1, 1))
    with torch.no_grad():
        network.conv.weight *= factor
        network.weighing[:, :13] /= factor
    return network


def test_the_image_keeps_its_scale_beside_a_convolution_of_large_numbers():
    model = quantized(pooled_beside(20))
    edges = model.numerics.edges
    joined_edge = next(edge for name, edge in edges.items() if name.startswith("cat"))
    image = edges[next(iter(edges))]
    pooled = next(edge for name, edge in edges.items() if name.startswith("max_pool"))
    assert pooled == image, "what only passes the image on has another scale"
    assert image.scale * 5 < joined_edge.scale, "the image has taken the scale of the join"
    assert closeness_db(model, pooled_beside(20)) > 20


def skip(read_elsewhere: bool) -> nn.Module:
    """A narrow activation that is joined with a wide one, and that something else may read."""

    def forward_(self: nn.Module, x: Tensor) -> Tensor:
        narrow = self.narrow(x).relu()
        wide = self.wide(narrow if read_elsewhere else x).relu()
        return self.head(torch.cat([narrow, wide], 1).mean((2, 3)))

    modules = {"narrow": nn.Conv2d(3, 8, 3, padding=1), "wide": nn.Conv2d(8 if read_elsewhere else 3, 8, 3, padding=1)}
    network = randomized(Passing(forward_, **modules, head=nn.Linear(16, 4)))
    with torch.no_grad():
        network.narrow.weight *= 0.02
        network.narrow.bias *= 0.02
        network.wide.weight *= 50
    return network


def test_a_narrow_input_that_is_read_elsewhere_keeps_its_scale_and_the_outputs_come_nearer(monkeypatch):
    edges = (apart := quantized(skip(read_elsewhere=True))).numerics.edges
    assert edges["relu"].scale * 2 < edges["cat"].scale == edges["relu_1"].scale
    monkeypatch.setattr("edgeslim.compress.quantize.joins.NARROW", 0.0)
    together = quantized(skip(read_elsewhere=True))
    assert together.numerics.edges["relu"] == together.numerics.edges["cat"], "no candidate, and yet apart"
    better_db = closeness_db(apart, skip(read_elsewhere=True)) - closeness_db(together, skip(read_elsewhere=True))
    assert better_db > 3


def test_what_a_join_alone_reads_is_rounded_once():
    edges = quantized(skip(read_elsewhere=False)).numerics.edges
    assert edges["relu"] == edges["relu_1"] == edges["cat"]


def test_scales_stay_together_where_apart_measures_no_better(monkeypatch):
    monkeypatch.setattr("edgeslim.compress.quantize.joins.closeness_db", lambda *_: [30.0, 30.0])
    edges = quantized(skip(read_elsewhere=True)).numerics.edges
    assert edges["relu"] == edges["relu_1"] == edges["cat"]


def test_a_join_of_a_sigmoid_and_an_image_is_wide_enough_for_both():
    def forward_(self: nn.Module, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.conv(x).sigmoid(), x], 1).mean((2, 3)))

    model = quantized(randomized(Passing(forward_, conv=nn.Conv2d(3, 4, 1), head=nn.Linear(7, 4))))
    join = model.numerics.edges["cat"]
    largest = max(float(batch.max()) for batch in IMAGES.tensors())
    assert join.high >= min(largest, 1.5) - join.scale, "the join has the fixed scale of a sigmoid"
