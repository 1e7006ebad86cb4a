"""What a shell completes: devices, formats and other words that are known, and files."""

import pytest
from click.shell_completion import ShellComplete

from edgeslim.cli.main import commands
from edgeslim.compress.legalize.rewrites import known_rewrites
from edgeslim.devices.profile import all_profiles
from edgeslim.formats import FORMATS
from edgeslim.measure.meters import METERS


def completed(*words: str) -> list[str]:
    """Return what the last word, which is only begun, may become."""
    found = ShellComplete(commands, {}, "edgeslim", "_EDGESLIM_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [one.type if one.type != "plain" else one.value for one in found]


@pytest.mark.parametrize("command", ["build", "check", "sensitivity", "probe", "calibrate"])
def test_a_device_is_completed_by_name_and_alias(command: str):
    names = {name for one in all_profiles() for name in (one.name, *one.aliases)}
    assert set(completed(command, "--device", "")) == names
    assert completed(command, "-d", "raspberry-pi-z") == ["raspberry-pi-zero-2w"]
    assert completed(command, "--device", "rp") == ["rpi-zero-2w", "rpi4", "rpi5"]


def test_a_device_that_is_none_may_be_a_file():
    assert completed("build", "--device", "my-board.y") == ["file"]


def test_the_devices_command_completes_names_too():
    assert "nxp-imx93" in completed("devices", "nxp")


@pytest.mark.parametrize("command", ["build", "check"])
def test_formats_that_were_not_given_are_completed(command: str):
    assert completed(command, "--format", "") == list(FORMATS)
    assert completed(command, "--format", "onnx", "--format", "") == [one for one in FORMATS if one != "onnx"]
    assert completed(command, "--format", "o") == ["onnx", "openvino"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("build", "--prune", "ma"), ["macs="]),
        (("build", "--prune", ""), ["macs=", "parameters=", "channels=", "latency="]),
        (("build", "--rewrite", "relu6"), ["relu6=yes", "relu6=no"]),
        (("build", "--rewrite", "a"), ["auto", *(f"average_as_convolution={one}" for one in ("yes", "no"))]),
        (("build", "--weights", "ra"), ["random"]),
        (("build", "--weights", "best.pt"), ["file"]),
        (("bench", "--meter", "r"), ["rapl"]),
        (("bench", "--meter", ""), ["auto", *METERS, "csv:"]),
        (("cache", "--kind", "curv"), ["curve"]),
        (("cache", "--kind", "nosuch"), []),
    ],
)
def test_other_words_that_are_known_are_completed(words: tuple[str, ...], found: list[str]):
    assert completed(*words) == found


def test_every_rewrite_may_be_asked_for_or_not():
    assert len(completed("build", "--rewrite", "")) == 2 + 2 * len(known_rewrites())
