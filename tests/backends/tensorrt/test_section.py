"""What manifest, summary and inspection say of a GPU build."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from edgeslim.artifact.archive import Artifact
from edgeslim.backends.tensorrt.build import inspected
from edgeslim.backends.tensorrt.section import FLAGS, gpu_files
from edgeslim.backends.tensorrt.tables import Fp16Row, fp16_table, gpu_lines
from edgeslim.devices.profile import load_profile
from edgeslim.measure.entries import entries_of
from edgeslim.model.fp16_plan import HalfOperator, HalfPlan
from edgeslim.report.inspection import Inspection
from edgeslim.report.inspection_tables import inspection_data
from edgeslim.report.tables import rendered
from tests.support.fp16_checks import DEVICE, check
from tests.support.installed import skip_without
from tests.support.small_artifact import stage

KEPT = HalfOperator("conv2d", "conv2d", "conv.weight", 7e4, -200.0, 50.1, "writes up to 7e+04; that overflows fp16")
PLAN = HalfPlan((KEPT, HalfOperator("relu", "relu", None, 2.0, 74.5, 52.0, None)), "fp32", 50.0, 2.0, 32)


def test_the_summary_lists_what_stays_fp32_and_says_that_nothing_ran_on_a_gpu(tmp_path: Path):
    plain = stage(tmp_path / "staging")
    assert gpu_lines(plain) == [], "a device without a GPU has lines about one"
    text = "\n".join(gpu_lines(plain.model_copy(update={"gpu": gpu_files(PLAN, check(), DEVICE)})))
    for part in (
        "fp16: 1 of 2 operators, input and output fp32",
        "fp32: conv2d `conv2d`: writes up to 7e+04; that overflows fp16",
        "on 99.00 % of 100 images in fp16 (simulated), on 90.00 % all in bf16 (simulated)",
        "both on a CPU",
        "nothing ran on a GPU; no time was measured",
        "python3 build_engine.py (TensorRT 10.3 or newer)",
        "TensorrtExecutionProvider, session.disable_cpu_ep_fallback=1",
        "edgeslim's agent: --provider TensorrtExecutionProvider --no-fallback",
    ):
        assert part in text, f"the summary does not say: {part}"


def test_every_precision_of_the_device_has_flags_and_all_are_strict():
    made = gpu_files(PLAN, check(), DEVICE)
    assert set(made.flags) == {"fp32", "fp16", "int8"}, "a precision has no flags"
    assert all("--stronglyTyped" in flags for flags in FLAGS.values()), "TensorRT may choose precisions"
    with pytest.raises(ValueError, match="raspberry-pi-4 has no TensorRT"):
        gpu_files(PLAN, check(), load_profile("raspberry-pi"))


def test_a_bench_starts_the_agent_with_the_arguments_that_the_manifest_names(tmp_path: Path):
    skip_without("onnxruntime")
    plain = stage(tmp_path / "staging")
    made = gpu_files(PLAN, check(), DEVICE)
    for manifest, wanted in (
        (plain, ()),
        (plain.model_copy(update={"gpu": made}), ("--provider", "TensorrtExecutionProvider", "--no-fallback")),
    ):
        (entry,) = entries_of(tmp_path / "staging", manifest, plain.primary)
        assert entry.candidate.arguments == wanted, "a GPU's file may fall to the CPU unseen, or a CPU's asks for one"
    assert made.provider in made.agent_arguments, "manifest and agent ask for two providers"


def test_inspection_marks_a_weight_that_the_file_holds_otherwise():
    kept, relu = gpu_files(PLAN, check(), DEVICE).operators
    rows = [Fp16Row(kept, "fp16"), Fp16Row(relu, None)]
    assert [row.as_planned for row in rows] == [False, True], "a weight in another precision goes unseen"
    console = Console(file=StringIO(), width=200)
    console.print(rendered(fp16_table(rows)))
    assert console.file.getvalue().count("DIFFERS") == 1, "the table does not mark it"


def test_an_inspection_is_json(tmp_path: Path):
    skip_without("onnxruntime")
    plain = stage(tmp_path / "staging")
    made = gpu_files(PLAN, check(), DEVICE)
    half = plain.models[0].model_copy(update={"precision": "fp16"})  # its file is read for what it holds
    found = inspected(Artifact(tmp_path / "staging", plain.model_copy(update={"gpu": made, "models": (half,)})))
    data = json.loads(json.dumps(inspection_data(Inspection({}, 0, [], [], found))))
    assert [row["planned"]["precision"] for row in data["half_precision"]] == ["fp32", "fp16"], "the operators are lost"
