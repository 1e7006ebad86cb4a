"""Hybrids of convolutions and attention are built in all formats; what attention and norms mix keeps its width."""

import sys
from collections.abc import Iterator

import pytest

from edgeslim.compress.prune.channels import channels_of
from edgeslim.export.process import workers
from edgeslim.formats import FORMATS
from edgeslim.model.graph import trace
from tests.support import REPOSITORY
from tests.support.hybrids import BLOCKS, SIZE, hybrid
from tests.support.installed import skip_where_openvino_saturates, skip_without

sys.path.insert(0, str(REPOSITORY / "tools"))
import fuzz_builds

AROUND = {"0.0", "5.0"}  # the stem's first convolution and the one behind the block
PRUNABLE = {
    "ConvNeXt": {"4.widen"},
    "MobileViT": {"2.0", "4.near", "4.leave", "4.fuse"},
    "EfficientFormer": {"2.0", "4.mlp.0.0"},
    "squeeze-and-excite, sigmoid": {"2.0", "4.squeeze"},
    "squeeze-and-excite, hard sigmoid": {"2.0", "4.squeeze"},
    "squeeze-and-excite, tanh": {"2.0", "4.squeeze"},
    "squeeze-and-excite, of pixels too": {"2.0", "4.channels.squeeze"},
    "efficient channel attention": set(),
}


def test_every_hybrid_is_expected() -> None:
    assert set(PRUNABLE) == set(BLOCKS)


@pytest.mark.parametrize("name", BLOCKS)
def test_what_attention_and_norms_mix_keeps_its_width_and_the_rest_is_prunable(name: str) -> None:
    assert set(channels_of(trace(hybrid(name), (1, *SIZE))).groups) == AROUND | PRUNABLE[name]


@pytest.fixture(scope="module")
def exporters() -> Iterator[None]:
    for one in FORMATS.values():
        skip_without(one.runtime)
    skip_where_openvino_saturates()
    with workers(tuple(FORMATS)):
        yield


@pytest.mark.usefixtures("exporters")
@pytest.mark.parametrize("name", BLOCKS)
def test_a_hybrid_is_pruned_and_built_as_its_module_and_plan_say(name: str) -> None:
    outcome = fuzz_builds.outcome_of(1, hybrid(name), SIZE)  # every odd one is pruned
    assert outcome.ending == "built", str(outcome)
