"""Files run on a set whose inputs do not lie on the disk all at once: nothing about them is another."""

from pathlib import Path

import numpy as np
import pytest

from edgeslim.compress.quantize import step as quantize
from edgeslim.export.evaluation import inputs
from edgeslim.export.evaluation.inputs import in_parts, input_files
from edgeslim.export.evaluation.run import judge_all
from edgeslim.export.export_all import export_job, write_networks
from tests.support.builds import make_plan, write_smooth_noise

ROW_BYTES = 4 * 16 * 16 * 3


def test_a_set_is_judged_in_parts_as_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(write_smooth_noise(tmp_path / "images.npz", 320), tmp_path, quantize.Settings())
    write_networks(plan.dense, plan.quantized, None, plan.context)
    files = [export_job("onnx", precision, tmp_path, ["logits"]) for precision in ("fp32", "int8")]
    found = []
    for part_bytes in (2**30, 70 * ROW_BYTES):
        monkeypatch.setattr(inputs, "PART_BYTES", part_bytes)
        judged, failures = judge_all(files, plan.dense, plan.quantized, 1, plan.context)
        assert failures == []
        found.append(judged)
        held = np.load(input_files(tmp_path)["onnxruntime"], mmap_mode="r").shape[0]
        assert held == min(160, part_bytes // ROW_BYTES), "more lies there than one part"
        assert not (tmp_path / "further_inputs").exists()
    for whole, parts in zip(*found, strict=True):
        assert np.array_equal(whole.outputs[0], parts.outputs[0])
        assert (whole.score, whole.proven, whole.sqnr_db) == (parts.score, parts.proven, parts.sqnr_db)
    assert [len(one) for one in in_parts(plan.context.data.evaluation)] == [70, 70, 20]
