"""A user's file: a module that is there already, and what cannot be called as it is."""

import sys

import pytest
import torch

from edgeslim.errors import BadModel
from edgeslim.model.load import load_model
from tests.support import TESTS
from tests.support.small_models import CLASSES, SIDE

HERE = TESTS / "support" / "many_outputs.py"


def test_a_module_in_a_file_is_taken_as_it_is():
    model = load_model(f"{HERE}:made_beside")
    assert (model.source, model.weights_source) == ("many_outputs.py:made_beside", "the module")
    assert model.outputs[0].shape == (1, CLASSES)
    assert model.labels == ("boot", "shirt", "coat", "bag")


def test_a_module_in_a_file_takes_the_weights_of_another_file(tmp_path):
    other = load_model(f"{HERE}:made_beside", "random", 5)
    torch.save(other.network.state_dict(), tmp_path / "w.pt")
    model = load_model(f"{HERE}:made_beside", tmp_path / "w.pt")
    assert (model.weights_source, model.weights_sha256()) == ("w.pt", other.weights_sha256())


def test_a_module_that_several_files_share_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "shared_network.py").write_text("from tests.support.many_outputs import in_a_tuple\nnet = in_a_tuple()")
    file = tmp_path / "mine.py"
    file.write_text("from tests.support.many_outputs import PREPROCESSING\nfrom shared_network import net\n")
    load_model(f"{file}:net")
    shared = sys.modules.pop("shared_network").net
    assert len(shared(torch.zeros(1, 3, SIDE, SIDE))) == 2, "what the shared module returns was changed"


@pytest.mark.parametrize(
    ("name", "needed", "call"),
    [("needs", "`width`, `depth`", "needs(width=..., depth=...)"), ("Needs", "`classes`", "Needs(classes=...)")],
)
def test_what_needs_arguments_is_told_where_to_say_them(name, needed, call):
    with pytest.raises(BadModel) as refused:
        load_model(f"{HERE}:{name}")
    assert str(refused.value) == (
        f"many_outputs.py:{name} needs {needed}, and edgeslim calls it without arguments; say them at the end of "
        f"many_outputs.py, and name many_outputs.py:network:\n    network = {call}"
    )


@pytest.mark.parametrize(("name", "kind"), [("LABELS", "tuple"), ("with_a_number", "Tensor")])
def test_what_is_neither_made_nor_makes_a_module_is_refused(name, kind):
    with pytest.raises(
        BadModel, match=rf"many_outputs\.py:{name} is of type {kind}; expected a function, a class or a torch"
    ):
        load_model(f"{HERE}:{name}")


def test_a_module_that_cannot_be_copied_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import threading\nfrom tests.support.many_outputs import *\nfrom tests.support.many_outputs import plain\n"
        "net = plain()\nnet.lock = threading.Lock()\n"
    )
    with pytest.raises(BadModel, match=r"mine\.py:net cannot be copied, and edgeslim changes no module of yours: "):
        load_model(f"{file}:net")
