"""The reference kernels of TensorFlow Lite Micro beside LiteRT, on one convolution."""

import numpy as np
import pytest

from edgeslim.backends.ethos_u import reference_kernels as micro
from edgeslim.deploy.run_model import run_model
from edgeslim.errors import ToolFailed

if micro.installed_version() is None:
    pytest.skip("tflite-micro is not installed; pip install 'edgeslim[micro]'", allow_module_level=True)


def test_the_reference_kernels_answer_as_litert_does_within_a_step(tiny, tmp_path):
    model, inputs = tiny("litert").models["int8"], tiny("litert").inputs["int8"]
    found = micro.compare(model, inputs, run_model("litert", model, inputs, precision="int8"), tmp_path)
    assert found.version == micro.installed_version()
    assert (found.images, found.max_lsb <= 1, found.equal_pct > 50.0) == (5, True, True), found


def test_a_difference_is_counted_in_steps(tiny, tmp_path):
    model, inputs = tiny("litert").models["int8"], tiny("litert").inputs["int8"]
    (outputs,) = run_model("litert", model, inputs, precision="int8")
    outputs.reshape(-1)[0] ^= 0x40
    assert micro.compare(model, inputs, [outputs], tmp_path).max_lsb >= 63


def test_a_file_the_kernels_cannot_run_is_a_failure_with_a_log(tmp_path):
    junk = tmp_path / "junk.tflite"
    junk.write_bytes(bytes(64))
    with pytest.raises(ToolFailed, match=r"tflite-micro .*tflite_micro\.log"):
        micro.compare(junk, np.zeros((1, 4), np.int8), [np.zeros((1, 4), np.int8)], tmp_path)
