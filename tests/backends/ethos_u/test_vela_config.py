"""Our vela.ini: its figures are Arm's, and every bundled profile names sections of it."""

import configparser
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeslim.backends.ethos_u.vela_config import CONFIG, config_sha256, known, profile_faults
from edgeslim.devices.profile import all_profiles


def sections(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(path.read_text())
    return {name: dict(parser[name]) for name in parser.sections()}


def test_the_figures_of_the_system_configurations_are_those_of_arms_own_file():
    spec = find_spec("ethosu")
    if spec is None:
        pytest.skip("ethos-u-vela is not installed; pip install 'edgeslim[ethos-u]'")
    (package,) = spec.submodule_search_locations
    arm = sections(Path(package) / "config_files" / "Arm" / "vela.ini")
    ours = sections(CONFIG)
    for name in known("System_Config"):
        assert ours[f"System_Config.{name}"] == arm[f"System_Config.{name}"], name


def test_the_sized_memory_mode_is_nxps_cache_of_384_kib():
    mode = sections(CONFIG)["Memory_Mode.Dedicated_Sram_384KB"]
    assert int(mode["arena_cache_size"]) == 384 * 1024


def test_every_section_serves_a_bundled_device():
    compilers = [one.compiler for one in all_profiles() if one.compiler is not None]
    assert {one.system_config for one in compilers} == set(known("System_Config"))
    assert {one.memory_mode for one in compilers} == set(known("Memory_Mode"))
    assert [fault for one in all_profiles() if one.compiler for fault in profile_faults(one)] == []


def test_the_hash_is_that_of_the_file():
    assert len(config_sha256()) == 64
