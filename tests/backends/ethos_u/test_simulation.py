"""What a compiler simulates lies beside the measurements, is read strictly and is never compared as if measured."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from edgeslim.artifact.archive import Artifact
from edgeslim.backends.ethos_u.build import inspected
from edgeslim.backends.ethos_u.simulation import FILE, Figures, Simulation, load_simulation, save_simulation
from edgeslim.backends.ethos_u.tables import simulation_table, untimed_lines
from edgeslim.errors import BadInput
from edgeslim.measure.bench import compare
from edgeslim.report.inspection import Inspection
from edgeslim.report.inspection_tables import inspection_data
from edgeslim.report.tables import rendered
from tests.support.small_artifact import stage

FAST = Figures("Performance", True, 0.003, 3_000_000, 300_000, 5_000, 0, 4_000_000, 5_000, 0)
SMALL = replace(FAST, goal="Size", kept=False, inference_s=0.004, sram_bytes=200_000)
SIMULATED = Simulation(
    label="tflite int8 on ethos-u65-256",
    device="nxp-imx93",
    model="models/model_int8_vela.tflite",
    model_sha256="0" * 64,
    compiler="ethos-u-vela",
    compiler_version="5.2.0",
    accelerator_config="ethos-u65-256",
    system_config="NXP_iMX93",
    memory_mode="Dedicated_Sram_384KB",
    config_sha256="1" * 64,
    goals=(FAST, SMALL),
    known_error="42 % above what was published",
)


def test_it_is_read_back_as_it_was_written_and_says_what_it_is(tmp_path: Path):
    assert load_simulation(tmp_path) is None, "there is one where none was written"
    save_simulation(SIMULATED, tmp_path)
    assert load_simulation(tmp_path) == SIMULATED
    held = json.loads((tmp_path / FILE).read_text())
    assert (held["kind"], held["format"]) == ("simulated", "edgeslim-simulation/1"), "it may be taken for a measurement"
    assert SIMULATED.kept == FAST, "the other goal's figures are taken for the file's"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"known_error": None}, "known_error: Input should be a valid string"),
        ({"watts": 1}, "watts: Unexpected keyword argument"),
        ({"kind": "measured"}, "kind: Input should be 'simulated'"),
    ],
)
def test_a_damaged_one_is_refused_by_name_and_key(tmp_path: Path, change, message):
    save_simulation(SIMULATED, tmp_path)
    file = tmp_path / FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(BadInput, match=message) as refused:
        load_simulation(tmp_path)
    assert str(file) in str(refused.value), "the file is not named"


def test_two_goals_cannot_both_be_the_files():
    with pytest.raises(BadInput, match="expected exactly one goal whose file was kept"):
        replace(SIMULATED, goals=(FAST, replace(SMALL, kept=True)))


def test_it_is_not_compared_as_if_it_were_measured(tmp_path: Path):
    save_simulation(SIMULATED, tmp_path)
    with pytest.raises(BadInput, match=r"simulated-vela\.json: holds what a compiler simulates; only what"):
        compare(tmp_path / FILE, tmp_path / FILE)


def test_inspection_shows_every_goal_with_the_known_error(tmp_path: Path):
    (tmp_path / "measurements").mkdir()
    console = Console(file=StringIO(), width=200)
    console.print(rendered(simulation_table(SIMULATED)))
    text = console.file.getvalue()
    for part in ("Performance *", "Size ", "not measured", "3 ms", "3,000,000", "42 % above", FILE):
        assert part in text, f"it does not say: {part}"
    save_simulation(SIMULATED, tmp_path / "measurements")
    found = inspected(Artifact(tmp_path, stage(tmp_path / "staging")))
    data = inspection_data(Inspection({}, 0, [], [], found))
    assert json.loads(json.dumps(data))["simulated"]["goals"][1]["goal"] == "Size", "the JSON lost a goal"


def test_a_bench_has_nothing_to_say_of_an_npu_where_there_is_none(tmp_path: Path):
    assert untimed_lines(stage(tmp_path / "staging")) == []
