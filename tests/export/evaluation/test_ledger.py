"""What a file holds of the plan: a layer that a file keeps in float is told, and ends nothing."""

from pathlib import Path

import pytest

from edgeslim.compress.quantize import step as quantize
from edgeslim.export.evaluation import ledger
from edgeslim.export.job import Held, Spelling
from tests.support.builds import Plan, make_plan, write_smooth_noise


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(write_smooth_noise(tmp_path / "images.npz"), tmp_path, quantize.Settings())


def test_a_layer_that_a_file_keeps_in_float_is_told(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plan.numerics.integer_layers[0]
    held = {name: Held("weight", "float32", (), 0)}
    monkeypatch.setattr(ledger, "read_back", lambda *_: ({}, held))
    rows = ledger.read_ledger("tflite", Path("none.tflite"), plan.numerics, Spelling())
    (row,) = (one for one in rows if one.kind == "layer" and one.name == name)
    assert (row.state, row.reason) == ("absent", None)
    assert row.unexplained
