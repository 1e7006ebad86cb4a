"""What pruning tried: kept, shown, drawn, and which of it is worth having."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from edgeslim.artifact.manifest import LayerError
from edgeslim.errors import BadInput
from edgeslim.model.trials import Trial, load_trials, pareto, save_trials
from edgeslim.report.inspection import DepthRow, Inspection
from edgeslim.report.inspection_tables import trials_table
from edgeslim.report.plots import inspection_plot
from edgeslim.report.tables import rendered


def tried(latency_us: float, lost: float, widths: dict[str, int] | None = None) -> Trial:
    return Trial(widths or {"stem": 8}, 1e-6 * latency_us, 1000, 100, lost, lost + 0.4, lost <= 0.6)


TRIALS = [tried(266, 0.0), tried(139, 0.85), tried(204, 0.35), tried(188, 0.15, {"stem": 8, "block a.0": 0})]
DEPTH = [
    DepthRow("stem", LayerError(name="conv2d", layer_db=36.0, cumulative_db=36.0, exported_db={"onnx": 35.0}), 80, {}),
    DepthRow(
        "head", LayerError(name="linear", layer_db=None, cumulative_db=30.0, exported_db={"onnx": None}), None, {}
    ),
]


@given(st.lists(st.builds(tried, st.integers(1, 20), st.integers(-2, 9)), max_size=12))
def test_on_the_front_is_what_no_other_beats(trials: list[Trial]) -> None:
    front = pareto(trials)
    assert [one.latency_s for one in front] == sorted({one.latency_s for one in front}, reverse=True)
    for one in trials:
        better = [o for o in trials if o.latency_s <= one.latency_s and o.drop_points <= one.drop_points and o != one]
        beaten = any((o.latency_s, o.drop_points) != (one.latency_s, one.drop_points) for o in better)
        points = [(f.latency_s, f.drop_points) for f in front]
        assert ((one.latency_s, one.drop_points) in points) is not beaten


def test_trials_are_kept_as_they_are(tmp_path: Path) -> None:
    save_trials(TRIALS, tmp_path)
    assert load_trials(tmp_path) == TRIALS


def test_without_trials_there_is_no_file(tmp_path: Path) -> None:
    save_trials([], tmp_path)
    assert not list(tmp_path.iterdir())
    assert load_trials(tmp_path) == []


def shown(trials: list[Trial]) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(rendered(trials_table(trials)))
    return capture.get()


def test_the_table_names_the_front_what_was_refused_and_the_blocks_that_went() -> None:
    lines = [line for line in shown(TRIALS).splitlines() if " µs" in line]
    assert [" *" in line for line in lines] == [True, False, True, True]
    assert ["loses too much" in line for line in lines] == [False, False, False, True]
    assert ["block a.0" in line for line in lines] == [False, False, True, False]


def test_the_table_without_trials_says_why_there_may_be_none() -> None:
    assert "no pruned networks were tried" in shown([])


@pytest.mark.parametrize(("trials", "depth", "tall"), [(TRIALS, DEPTH, 900), (TRIALS, [], 450), ([], DEPTH, 450)])
def test_the_figure_has_a_panel_for_all_there_is(
    trials: list[Trial], depth: list[DepthRow], tall: int, tmp_path: Path
) -> None:
    file = tmp_path / "figure.png"
    inspection_plot(Inspection({}, 8, depth, trials), file)
    with Image.open(file) as picture:
        assert picture.height == pytest.approx(1.1 * tall, rel=0.02)
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 20


def test_nothing_to_draw_and_no_place_to_draw_to_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to draw: the artifact holds no trials of pruning"):
        inspection_plot(Inspection({}, 8, [], []), tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput, match=r"cannot write .*nosuch.*figure\.png: .*--plot"):
        inspection_plot(Inspection({}, 8, DEPTH, TRIALS), tmp_path / "nosuch" / "figure.png")
