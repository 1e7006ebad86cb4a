"""The real Vela on one convolution: what it places, which goal is kept, and every way in which it may not compile."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from edgeslim.backends.ethos_u.compile import (
    GOALS,
    KNOWN_ERROR,
    PACKAGE,
    VERSION,
    compile_network,
    in_order,
    require_vela,
)
from edgeslim.devices.profile import all_profiles, load_profile
from edgeslim.errors import MissingPackage, Refused, ToolFailed
from tests.support import REPOSITORY
from tests.support.compiled_files import IMX93, compiled, limited

NPUS = [one.name for one in all_profiles() if one.compiler is not None]


@pytest.fixture
def vela() -> None:
    try:
        require_vela()
    except MissingPackage as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", NPUS)
def test_an_int8_network_lies_on_the_npu_whole_for_both_goals(vela, tiny, tmp_path, name):
    made = compile_network(tiny("litert").models["int8"], load_profile(name).compiler, tmp_path / "out")
    assert {one.goal for one in made} == set(GOALS)
    for one in made:
        assert (one.placement.npu_pct, one.placement.on_cpu) == (100.0, ()), one.log.read_text()
        assert one.estimate.inference_s > 0
        assert 0 < one.estimate.sram_bytes + one.estimate.dram_bytes < 384 * 1024
        assert one.flash_bytes == one.file.stat().st_size > 0


def test_compiling_twice_gives_the_same_bytes_and_no_path_of_this_machine(vela, tiny, tmp_path):
    model = tiny("litert").models["int8"]
    first, second = (compile_network(model, IMX93, tmp_path / name / "out")[0] for name in ("one", "two"))
    for kind in ("file", "layers", "summary", "log"):
        content = getattr(first, kind).read_bytes()
        assert content == getattr(second, kind).read_bytes(), kind
        assert str(tmp_path).encode() not in content, kind


def test_vela_ends_well_on_a_float_network_and_its_reports_show_that_nothing_is_on_the_npu(vela, tiny, tmp_path):
    best = compile_network(tiny("litert").models["fp32"], IMX93, tmp_path / "out")[0]
    assert (best.placement.npu_pct, best.placement.on_npu) == (0.0, ())
    assert all("Float32" in one.reason and "it is float" in one.cure for one in best.placement.on_cpu)


def test_a_batch_above_one_is_refused_before_vela_runs(vela, tiny, tmp_path):
    utilities = pytest.importorskip(
        "ai_edge_litert.tools.flatbuffer_utils",
        reason="ai-edge-litert is not installed; pip install 'edgeslim[tflite]'",
    )
    model = utilities.read_model(tiny("litert").models["int8"])
    for tensor in model.subgraphs[0].tensors:
        if len(tensor.shape) == 4 and tensor.shape[1:3] == [16, 16]:
            tensor.shape[0] = 2
    two = tmp_path / "two.tflite"
    utilities.write_model(model, two)
    with pytest.raises(Refused, match=r"two\.tflite takes 2 images at a time; an Ethos-U takes one") as refused:
        compile_network(two, IMX93, tmp_path / "out")
    assert refused.value.exit_code == 3
    assert not (tmp_path / "out").exists(), "something was left behind"


def test_a_compiler_without_a_memory_mode_is_refused(vela, tiny, tmp_path):
    with pytest.raises(Refused, match="names no memory mode") as refused:
        compile_network(tiny("litert").models["int8"], IMX93.model_copy(update={"memory_mode": None}), tmp_path / "out")
    assert refused.value.exit_code == 3
    assert not (tmp_path / "out").exists(), "something was left behind"


def test_a_file_that_is_no_network_is_named(vela, tmp_path):
    junk = tmp_path / "junk.tflite"
    junk.write_text("no network")
    with pytest.raises(ToolFailed, match=r"junk\.tflite cannot be read as a TFLite file"):
        compile_network(junk, IMX93, tmp_path / "out")


def test_a_failure_of_vela_keeps_its_log_and_nothing_half_written(vela, tiny, tmp_path):
    wrong = IMX93.model_copy(update={"memory_mode": "Dedicated_Sram"})
    expected = r"Vela \(for Performance\) failed: .*Memory_Mode\.Dedicated_Sram not found"
    with pytest.raises(ToolFailed, match=expected) as failed:
        compile_network(tiny("litert").models["int8"], wrong, tmp_path / "out")
    assert failed.value.exit_code == 7
    assert list((tmp_path / "out").iterdir()) == []
    assert str(tmp_path / "vela_Performance.log") in str(failed.value)
    assert (tmp_path / "vela_Performance.log").is_file()


def install(folder: Path, version: str) -> list[str]:
    """Put the metadata of an installed Vela into a folder, and return where to look for packages."""
    metadata = folder / f"ethos_u_vela-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n")
    return [str(folder)]


def test_a_missing_vela_is_named_with_the_command_that_installs_it(tmp_path):
    with pytest.raises(
        MissingPackage, match=r"ethos-u-vela is not installed\nhelp: .*'edgeslim\[ethos-u\]'"
    ) as missing:
        require_vela([str(tmp_path)])
    assert missing.value.exit_code == 7


def test_another_version_of_vela_is_refused_with_the_command_that_installs_the_pinned_one(tmp_path):
    require_vela(install(tmp_path / "right", VERSION))
    expected = rf"ethos-u-vela 4\.2\.0 is installed; .* pip install 'ethos-u-vela=={re.escape(VERSION)}'"
    with pytest.raises(ToolFailed, match=expected) as refused:
        require_vela(install(tmp_path / "wrong", "4.2.0"))
    assert refused.value.exit_code == 7


def test_the_pinned_version_is_the_one_that_the_extra_installs():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f"{PACKAGE}=={VERSION}" in project["optional-dependencies"]["ethos-u"]


def test_the_known_error_is_that_of_the_published_latency():
    (published,) = [
        one
        for one in load_profile("nxp-imx93").latency_references
        if (one.model, one.processor) == ("mobilenet_v2", "npu")
    ]
    told = re.search(r": ([\d.]+) ms published by NXP, ([\d.]+) ms simulated \(\+(\d+) %\)", KNOWN_ERROR)
    assert float(told[1]) / 1e3 == published.latency.value
    assert round(100 * (float(told[2]) / float(told[1]) - 1)) == int(told[3])


@pytest.mark.parametrize(
    ("sram", "first"),
    [(None, "Performance"), ("2000 B", "Performance"), ("1999 B", "Size"), ("100 B", "Size")],
    ids=["no limit", "both fit", "one fits", "none fits"],
)
def test_the_fastest_that_fits_comes_first_and_the_smallest_where_none_does(tmp_path, sram, first):
    fast, small = compiled(tmp_path, "Performance", 1.0, 2000), compiled(tmp_path, "Size", 2.0, 500)
    assert in_order([fast, small], limited(sram=sram))[0].goal == first


def test_of_equally_fast_ones_the_one_with_less_sram_comes_first(tmp_path):
    fast, small = compiled(tmp_path, "Performance", 1.0, 2000), compiled(tmp_path, "Size", 1.0, 500)
    assert in_order([fast, small], limited())[0] is small


def test_what_exceeds_the_device_is_said_with_both_figures(tmp_path):
    one = compiled(tmp_path, "Size", 1.0, 3000)
    assert one.excesses(limited(sram="3000 B", flash="1000 B")) == []
    assert one.excesses(limited(sram="2999 B", flash="999 B")) == [
        "needs 2.93 KiB of SRAM, the device has 2.93 KiB",
        "needs 1000 B of flash, the device has 999 B",
    ]
    assert replace(one, estimate=replace(one.estimate, sram_bytes=10**9)).excesses(limited()) == []
