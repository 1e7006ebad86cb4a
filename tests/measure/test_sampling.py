"""Sampling with the real agent, on files that change meanwhile; and which meter a device has."""

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeslim.deploy.deployment import python_agent
from edgeslim.deploy.device import Device
from edgeslim.deploy.targets.local import open_target
from edgeslim.errors import BadInput, DeviceFailed, InvalidMeasurement
from edgeslim.measure.bench import metered
from edgeslim.measure.harness import Workload
from edgeslim.measure.meters import METERS, Reading, Sampling, rapl
from edgeslim.measure.meters.find import find_meter, meter_module
from edgeslim.measure.sampling import sampling
from tests.support.fake_trees import write_hwmon, write_intel_n100, write_jetson, write_rapl, write_raspberry_pi_5

PERIOD_S = 0.02
AGENTS_NUMBER = "sh -c 'echo $PPID'"


@contextmanager
def sampled(*files, command=None, wrapped=()):
    """Sample files of this machine with the Python agent; `wrapped` are words before its command."""
    with open_target() as target:
        agent = (*wrapped, *python_agent(target))
        with sampling(target, agent, Sampling(tuple(map(str, files)), command, PERIOD_S)) as sampler:
            yield sampler


def wait_for(condition, what):
    """Wait until something is so, and fail where it is not in time."""
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.005)
    return found


def is_alive(pid):
    """True while the process runs; a killed one that nobody has reaped yet (state Z) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def replace(file, text):
    """Change a file in one step, so that a reader sees the old text or the new one."""
    part = file.with_name(file.name + ".part")
    part.write_text(text)
    part.replace(file)


def test_readings_follow_the_files(tmp_path):
    file = tmp_path / "energy_uj"
    file.write_text("1000\n")
    with sampled(file) as sampler:
        for value in ("1000", "2500", "4000"):
            replace(file, f"{value}\n")
            wait_for(
                lambda value=value: sampler.readings and sampler.readings[-1].values == (value,), f"reading {value}"
            )
        times = [one.at_s for one in sampler.readings]
    assert times == sorted(set(times)), "readings are out of order"
    assert abs(times[-1] - time.monotonic()) < 20, "the times are not the device's CLOCK_MONOTONIC"


def test_each_reading_holds_every_file_and_the_command_last(tmp_path):
    for name in ("in1_input", "curr1_input"):
        (tmp_path / name).write_text(f"{len(name)}\n")
    files = [tmp_path / "in1_input", tmp_path / "nowhere", tmp_path / "curr1_input"]
    with sampled(*files, command="echo VDD_CORE_V") as sampler:
        wait_for(lambda: sampler.readings, "the first reading")
        assert sampler.readings[0].values == ("9", None, "11", "VDD_CORE_V"), "values are missing or out of order"


def test_a_file_that_cannot_be_read_for_a_while_leaves_nulls(tmp_path):
    file = tmp_path / "power1_input"
    file.write_text("5\n")
    with sampled(file) as sampler:
        wait_for(lambda: sampler.readings, "the first reading")
        file.unlink()
        wait_for(lambda: sampler.readings[-1].values == (None,), "a null")
        replace(file, "6\n")
        wait_for(lambda: sampler.readings[-1].values == ("6",), "the sensor's return")
    assert {one.values for one in sampler.readings} == {("5",), (None,), ("6",)}, "a value was made up"


def test_the_energy_of_all_readings_is_what_the_counter_counted(tmp_path):
    counter = tmp_path / "energy_uj"
    counter.write_text("999900000\n")
    files = {str(counter): "", str(counter).replace("energy_uj", "max_energy_range_uj"): "1000000000\n"}
    with sampled(counter) as sampler:
        sampler.now_s  # noqa: B018 - waits for the first reading
        for step in range(1, 21):
            replace(counter, f"{(999_900_000 + 10_000 * step) % 1_000_000_000}\n")
            time.sleep(PERIOD_S / 2)
        wait_for(lambda: sampler.readings[-1].values == ("100000",), "the last count")
    found = rapl.watts(Sampling((str(counter),), None, PERIOD_S), sampler.readings, files)
    assert sum(one.watts * (one.to_s - one.from_s) for one in found) == pytest.approx(0.2), "20 x 10 mJ"


def test_a_pause_lies_between_two_readings_that_were_taken_in_it(tmp_path):
    with sampled("/proc/uptime") as sampler:
        wait_for(lambda: len(sampler.readings) > 2, "three readings")
        before = list(sampler.readings)
        began_s, ended_s = sampler.pause(0.3)
        now_s = time.monotonic()
        times = [one.at_s for one in sampler.readings]
    assert {began_s, ended_s} <= set(times), "the pause ends where nothing was read"
    assert began_s > before[-1].at_s, "the pause begins at a reading taken before it"
    assert began_s < ended_s <= now_s, "the pause is not over when it ends"


def test_an_agent_that_was_killed_surfaces_with_its_signal():
    with sampled(command=AGENTS_NUMBER) as sampler:
        agent = int(wait_for(lambda: sampler.readings, "the first reading")[0].values[0])
        assert Path(f"/proc/{agent}/cmdline").read_text().count("agent.py") == 1, "the number is not the agent's"
        os.kill(agent, signal.SIGKILL)
        with pytest.raises(DeviceFailed, match=r"agent\.py: killed by signal 9"):
            wait_for(lambda: sampler.pause(0.01) is None, "the failure")


def test_an_agent_that_ends_by_itself_surfaces_too():
    shortly = ("sh", "-c", 'exec "$@" --max-duration-s 0.1', "sh")
    with sampled("/proc/uptime", wrapped=shortly) as sampler:
        wait_for(lambda: sampler.failure, "the failure")
        with pytest.raises(DeviceFailed, match="ended before the run did"):
            sampler.now_s  # noqa: B018 - raises
    assert len(sampler.readings) > 0, "what was read before is lost"


def test_an_agent_that_refuses_to_start_surfaces_with_its_reason():
    with sampled() as sampler, pytest.raises(DeviceFailed, match=r"usage: .*--runtime"):
        sampler.pause(0.01)
    nowhere = sampled("/proc/uptime", wrapped=("/no/such/program",))
    with nowhere as sampler, pytest.raises(DeviceFailed, match="/no/such/program cannot be started"):
        sampler.pause(0.01)


def test_a_line_that_is_no_message_surfaces_as_a_protocol_error():
    with (
        sampled("/proc/uptime", wrapped=("echo",)) as sampler,
        pytest.raises(DeviceFailed, match="no message") as caught,
    ):
        sampler.pause(0.01)
    assert caught.value.status == "protocol", "a damaged line has another status"
    assert sys.executable in str(caught.value), "the line is not shown"


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, DeviceFailed("the model's process died")])
def test_nothing_is_left_when_the_sampling_ends(end):
    started, ended = [], []
    with open_target() as target:
        what = Sampling(("/proc/uptime",), AGENTS_NUMBER, PERIOD_S)
        try:
            with sampling(target, python_agent(target), what) as sampler:
                started.append(int(wait_for(lambda: sampler.readings, "the first reading")[0].values[1]))
                assert is_alive(started[0]), "the number is not the agent's"
                if end is not None:
                    raise end
        except (KeyboardInterrupt, DeviceFailed) as error:
            ended.append(error)
        count = len(sampler.readings)
        assert not is_alive(started[0]), "the agent lives on"
        time.sleep(3 * PERIOD_S)
        assert len(sampler.readings) == count, "somebody still reads"
    assert bool(ended) == (end is not None), "what ended it was swallowed"


def test_samplings_can_follow_each_other_on_one_target():
    with open_target() as target:
        agent, what = python_agent(target), Sampling(("/proc/uptime",), None, PERIOD_S)
        last_s = []
        for _ in range(2):
            with sampling(target, agent, what) as sampler:
                last_s.append(sampler.pause(0.05)[1])
    assert last_s[0] < last_s[1], "the second sampling has another clock"


@contextmanager
def device_like(root):
    with open_target(root=root) as target:
        yield Device(target)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_jetson, "ina3221"),
        (write_raspberry_pi_5, "pi_pmic"),
        (write_rapl, "rapl"),
        (lambda root: write_hwmon(root, {"ina226": 3_000_000}), "hwmon"),
        (lambda root: write_hwmon(write_rapl(root), {"ina226": 3_000_000}), "rapl"),
    ],
)
def test_auto_takes_the_widest_meter_the_device_has(write, name, tmp_path):
    write(tmp_path)
    with device_like(tmp_path) as device:
        found = find_meter(device, "auto")
    assert (found.name, found.scope) == (name, meter_module(name).SCOPE), "another meter was taken"


def test_a_meter_that_was_found_reads_its_own_readings(tmp_path):
    with device_like(write_rapl(tmp_path)) as device:
        found = find_meter(device, "rapl")
    (one,) = found.watts([Reading(1.0, ("1000000",)), Reading(2.0, ("4000000",))], [])
    assert one.watts == pytest.approx(3.0), "3 J in one second"


def test_a_device_without_a_meter_is_refused_with_every_reason(tmp_path):
    with device_like(write_intel_n100(tmp_path)) as device, pytest.raises(BadInput, match="no power meter") as caught:
        find_meter(device, "auto")
    for name in METERS:
        assert f"{name}: {meter_module(name).why_not({})}" in str(caught.value), f"the reason of {name} is missing"


def test_counters_that_only_root_may_read_are_refused_with_the_cure(tmp_path):
    cure = r"rapl: energy_uj can be read by root only: sudo chmod a\+r /sys/"
    with device_like(write_rapl(tmp_path, unreadable="all")) as device, pytest.raises(BadInput, match=cure):
        find_meter(device, "rapl")


def test_an_unknown_meter_is_refused_with_the_near_miss(tmp_path):
    near = "unknown meter `rappl`; did you mean `rapl`"
    with device_like(tmp_path) as device, pytest.raises(BadInput, match=near):
        find_meter(device, "rappl")


def test_a_trace_that_could_never_be_saved_is_refused_before_the_run(tmp_path):
    with device_like(tmp_path) as device:
        for name in ("csv:", f"csv:{tmp_path}", f"csv:{tmp_path}/no/such/folder/trace.csv"):
            with pytest.raises(BadInput, match="expected csv:FILE"):
                find_meter(device, name)


def test_a_trace_is_read_after_the_run_and_a_bad_one_costs_only_the_energy(tmp_path):
    trace = tmp_path / "trace.csv"
    with device_like(tmp_path) as device:
        found = find_meter(device, f"csv:{trace}")
    trace.write_text("time_s;power_w\n1;2\n")
    with pytest.raises(InvalidMeasurement, match=r"trace\.csv: expected a header"):
        found.watts([], [(10.0, 20.0)])
    trace.write_text("time_s,power_w\n" + "".join(f"{at / 10},{6 if 100 <= at < 200 else 3}\n" for at in range(300)))
    powers = found.watts([], [(1010.0, 1020.0)])
    at_work = [one.from_s for one in powers if one.watts == 6]
    assert (at_work[0], at_work[-1]) == pytest.approx((1010.0, 1019.9), abs=0.1), "the trace is not on the run's clock"


def test_every_meter_has_the_functions_of_the_seam():
    for name in METERS:
        meter = meter_module(name)
        assert meter.sampling({}) is None, f"{name} samples a device without files"
        assert meter.why_not({}), f"{name} does not say why it cannot be used"
        assert meter.SCOPE, f"{name} does not say what its figure covers"
        assert all(pattern.startswith("/") for pattern in meter.PATTERNS), f"{name} looks outside of /proc and /sys"


def test_metered_processes_run_and_rest_long_enough_to_read_a_power():
    short = metered(Workload(min_duration_s=0.3, max_duration_s=2.0, cool_down_s=0.0, processes=7, threads=2))
    assert short.min_duration_s >= 10, "a window is too short"
    assert short.max_duration_s >= 10, "the run's longest time cuts the windows"
    assert short.cool_down_s >= 5, "a pause is too short"
    assert (short.processes, short.threads) == (7, 2), "something else was changed"
    long = Workload(min_duration_s=60.0, cool_down_s=30.0)
    assert metered(long) == long, "what is long enough was changed"
