"""What a build knows of times is read back from beside its archive as it was, and never made up."""

import json
from pathlib import Path

import pytest

from edgeslim.errors import BadInput
from edgeslim.pipeline.documents.times import EMULATED, FILE, DeviceTimes, Times, load_times, save_times
from tests.support.made_times import TIMES

LABELS = ["onnx fp32", "onnx int8", "tflite int8"]


def test_what_was_written_is_read_back_equal(tmp_path: Path) -> None:
    save_times(TIMES, tmp_path)
    assert load_times(tmp_path, LABELS) == TIMES


def test_where_no_build_wrote_its_times_there_are_none(tmp_path: Path) -> None:
    assert load_times(tmp_path, LABELS) is None
    assert load_times(tmp_path / "missing", LABELS) is None


def test_a_build_that_timed_nothing_says_so(tmp_path: Path) -> None:
    nothing = Times((), DeviceTimes(), here=True)
    save_times(nothing, tmp_path)
    assert load_times(tmp_path, LABELS) == nothing
    assert not (tmp_path / EMULATED).exists()


def test_a_figure_that_is_gone_was_not_taken(tmp_path: Path) -> None:
    save_times(TIMES, tmp_path)
    (tmp_path / "onnx_fp32.json").unlink()
    (tmp_path / EMULATED / "onnx_int8.json").unlink()
    found = load_times(tmp_path, LABELS)
    assert found is not None
    assert ([one.label for one in found.measured], found.device.simulations) == (["onnx int8"], ())


@pytest.mark.parametrize("name", [FILE, "onnx_int8.json", f"{EMULATED}/onnx_int8.json"])
def test_a_record_that_is_damaged_is_named(tmp_path: Path, name: str) -> None:
    save_times(TIMES, tmp_path)
    record = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps({**record, "surprise": 1}))
    with pytest.raises(BadInput, match=f"{name}: surprise: "):
        load_times(tmp_path, LABELS)
