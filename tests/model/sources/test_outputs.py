"""Outputs: which are taken of all that a network returns, exactly, and what is said of it."""

import copy

import pytest
import torch

from edgeslim.errors import BadModel
from edgeslim.model.equivalence import require_traced
from edgeslim.model.load import load_model
from edgeslim.tasks.task import Output
from tests.support import TESTS
from tests.support.many_outputs import in_a_tuple
from tests.support.small_models import CLASSES, COLOR, SIDE

HERE = TESTS / "support" / "many_outputs.py"
IMAGE = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
FEATURES, FIRST = "`features` (1, 6, 6, 6)", "`returned[0]` (1, 6, 6, 6)"
# The network, how it returns what is taken, what that is called, how it is shown, and what is left out.
TAKEN = {
    "in_a_tuple": (lambda it: it[1], "logits", "`returned[1]`", FIRST),
    "in_a_list": (lambda it: it[2], "logits", "`returned[2]`", FIRST),
    "in_a_dictionary": (lambda it: it["class"], "class", "`class`", f"{FEATURES}, `step` of type int"),
    "in_a_dataclass": (lambda it: it.logits, "logits", "`logits`", FEATURES),
    "in_a_named_tuple": (lambda it: it.logits, "logits", "`logits`", FEATURES),
    "nested": (
        lambda it: it["out"]["logits"],
        "logits",
        "`logits`",
        "`returned['hidden'][0]` (1, 6, 6, 6), `returned['hidden'][1][0]` (1, 6, 6, 6)",
    ),
    "with_its_answer": (lambda it: it[0], "logits", "`returned[0]`", "`returned[1]` (1,) of torch.int64"),
    "named_among_equals": (lambda it: it["logits"], "logits", "`logits`", "`aux` (1, 4)"),
    "with_nothing_beside": (lambda it: it[0], "logits", None, None),
}


def source(factory: str) -> str:
    return f"{HERE}:{factory}"


def own(factory: str) -> torch.nn.Module:
    """Return the network itself, as its factory makes it."""
    namespace: dict[str, object] = {}
    exec(f"from tests.support.many_outputs import {factory} as made", namespace)
    return namespace["made"]()  # type: ignore[operator]


@pytest.mark.parametrize("factory", TAKEN)
def test_the_one_output_that_can_be_the_answer_is_taken_exactly_and_said(factory):
    of, name, shown, others = TAKEN[factory]
    model = load_model(source(factory))
    wanted = torch.cat([of(own(factory)(one)) for one in IMAGE.split(1)])
    assert model.outputs == (Output(name, (1, CLASSES)),)
    assert torch.equal(torch.cat([model.network(one) for one in IMAGE.split(1)]), wanted), "the reference is another"
    require_traced(model.network, model.graph, model.source, IMAGE)
    said = f"outputs: {shown} (1, 4) is taken; left out: {others}"
    assert model.history == (() if shown is None else (said,))


def test_what_is_left_out_is_gone_from_the_graph_and_the_weights_keep_their_names():
    model = load_model(source("named_among_equals"))
    assert set(model.network.state_dict()) == set(own("named_among_equals").state_dict())
    assert not [name for name, _ in model.graph.named_parameters() if name.startswith(("other", "place"))]


def test_a_copy_of_a_network_gives_the_same_output_of_its_own_weights():
    model = load_model(source("in_a_tuple"))
    copied = copy.deepcopy(model.network)
    with torch.no_grad():
        copied.head[-1].bias += 1
    assert torch.allclose(copied(IMAGE[:1]), model.network(IMAGE[:1]) + 1)


def test_a_module_that_was_given_is_left_with_all_that_it_returns():
    given = in_a_tuple()
    model = load_model(given, preprocessing=COLOR)
    assert torch.equal(model.network(IMAGE[:1]), given(IMAGE[:1])[1])


def test_all_outputs_of_a_dataclass_are_taken_where_the_first_is_the_answer():
    model = load_model(source("both_heads"))
    assert model.outputs == (Output("logits", (1, CLASSES)), Output("place", (1, SIDE)))
    assert model.history == ()
    assert type(model.network(IMAGE[:1])) is tuple, "the processes that write files know no dataclass of others"
    require_traced(model.network, model.graph, model.source, IMAGE)


def test_the_first_of_several_that_could_be_it_is_taken_and_said():
    model = load_model(source("first_of_equals"))
    assert [one.name for one in model.outputs] == ["logits", "output_1"]
    assert model.history == (
        "outputs: `returned[0]` (1, 4) is taken as `logits`, for it is the first; `returned[1]` (1, 4) could be it too",
    )


BEHIND = f"returns {FIRST}, `returned[1]` (1, 4), `returned[2]` (1, 4); `returned[1]` (1, 4) and `returned[2]` (1, 4)"


@pytest.mark.parametrize(
    ("factory", "told", "line"),
    [
        ("two_behind_features", f"{BEHIND} could each be `logits`", "returned[1]"),
        ("features_alone", "`low` (1, 6, 6, 6), `high` (1, 6, 6, 6); none can be `logits`", "returned['low']"),
    ],
)
def test_outputs_that_leave_open_what_is_meant_are_named_with_the_lines_that_say_it(factory, told, line):
    with pytest.raises(BadModel) as refused:
        load_model(source(factory))
    message = str(refused.value)
    assert told in message
    assert message.endswith(
        f"Say which is meant at the end of many_outputs.py, and name many_outputs.py:network:\n"
        f"    network = {factory}()\n"
        f"    network.register_forward_hook(lambda module, images, returned: {line})"
    )


def test_a_network_that_returns_nothing_is_refused():
    with pytest.raises(BadModel, match=r"nothing returns nothing; the outputs of a network are tensors of floats"):
        load_model(source("nothing"))


def test_the_lines_that_say_it_can_be_pasted(tmp_path):
    with pytest.raises(BadModel) as refused:
        load_model(source("two_behind_features"))
    lines = [line.strip() for line in str(refused.value).splitlines()[1:]]
    pasted = tmp_path / "pasted.py"
    pasted.write_text("\n".join(["from tests.support.many_outputs import *", "from tests.support import many_outputs",
                                 "two_behind_features = many_outputs.two_behind_features", *lines]))  # fmt: skip
    model = load_model(f"{pasted}:network")
    assert torch.equal(model.network(IMAGE[:1]), own("two_behind_features")(IMAGE[:1])[1])


def test_of_a_module_that_is_there_the_lines_are_for_that_module():
    with pytest.raises(BadModel, match=r"Say which is meant before you give it:\n    network\.register_forward_hook"):
        load_model(own("two_behind_features"), preprocessing=COLOR)


def test_a_file_that_names_its_outputs_is_taken_at_its_word(tmp_path):
    text = "from tests.support.many_outputs import *\nfrom tests.support.many_outputs import {0}\nOUTPUTS = {1}\n"
    file = tmp_path / "mine.py"
    file.write_text(text.format("first_of_equals", ["one", "other"]))
    model = load_model(f"{file}:first_of_equals")
    assert [one.name for one in model.outputs] == ["one", "other"]
    assert model.history == ()
    file.write_text(text.format("with_its_answer", ["one", "other"]))
    with pytest.raises(BadModel, match=r"returns a tensor of torch\.int64; the outputs of a network are tensors of"):
        load_model(f"{file}:with_its_answer")
