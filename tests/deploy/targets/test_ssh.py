"""The ssh target against a second machine: an emulated aarch64 Debian with dropbear, and a disk that can be filled."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeslim.deploy.targets.ssh import open_target
from edgeslim.errors import BadInput, DeviceFailed
from tests.support.emulated_machine import REMOTE, make_key, running_machine

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    with running_machine(tmp_path_factory.mktemp("machine")) as one:
        yield one


@pytest.fixture
def target(machine):
    with open_target(machine.address) as opened:
        yield opened


@pytest.fixture
def blob(tmp_path):
    file = tmp_path / "blob.bin"
    file.write_bytes(bytes(range(256)) * 4096)
    return file


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def masters():
    """Return the processes that hold an ssh connection open here."""
    return {pid for pid in Path("/proc").glob("[0-9]*") if b"\0-M\0-N\0" in command_of(pid)}


def command_of(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def files_there(machine):
    """Return every file in edgeslim's folder on the machine, what is kept for the next session aside."""
    return machine.ssh(f"cd {REMOTE} && find . -type f | grep -v '^./kept/' || true").split()


def test_a_file_arrives_whole_and_comes_back_the_same(machine, target, blob, tmp_path):
    remote = target.push(blob)
    assert machine.ssh(f"sha256sum {remote}").split()[0] == sha256(blob), "it arrived damaged"
    target.pull(remote, tmp_path / "back.bin")
    assert sha256(tmp_path / "back.bin") == sha256(blob), "it came back damaged"
    left = [one for one in files_there(machine) if one.endswith(".part")] + list(tmp_path.glob("*.part"))
    assert not left, f"half-written files were left: {left}"


def test_what_is_there_already_is_not_sent_again(machine, target, blob):
    remote = target.push(blob, keep=True)
    written = machine.ssh(f"stat -c %Z {remote}")
    time.sleep(1.1)
    assert target.push(blob, keep=True) == remote, "the same content has another name"
    assert machine.ssh(f"stat -c %Z {remote}") == written, "it was sent again"


@pytest.mark.parametrize("begun", ["right", "damaged"])
def test_a_transfer_that_was_cut_is_continued_and_a_damaged_part_is_replaced(machine, target, blob, begun):
    remote = target.push(blob)
    half = len(blob.read_bytes()) // 2
    source = remote if begun == "right" else "/dev/urandom"
    machine.ssh(f"head -c {half} {source} >{remote}.part && rm {remote}")
    assert target.push(blob) == remote
    assert machine.ssh(f"sha256sum {remote}").split()[0] == sha256(blob), "the end was joined to a wrong beginning"
    assert machine.ssh(f"ls {remote}.part 2>/dev/null || true") == "", "the part was left"


def test_a_program_stays_executable_and_its_lines_come_as_they_are_written(target, tmp_path):
    program = tmp_path / "count"
    program.write_text("#!/bin/sh\nfor n in 1 2 3; do echo $n $1; sleep 0.3; done\n")
    program.chmod(0o755)
    came = [(line, time.monotonic()) for line in target.run([target.push(program), "a b's"], 60)]
    assert [line for line, _ in came] == ["1 a b's", "2 a b's", "3 a b's"], "words were split or lines lost"
    assert came[2][1] - came[0][1] > 0.3, "the lines came only at the end"


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ("echo wrong >&2; exit 3", "failed", "(?s)exit code 3.*wrong"),
        ("kill -SEGV $$", "killed", r"signal 11 \(SIGSEGV\)"),
        ('echo \'{"type":"error","reason":"old-runtime","message":"needs 9"}\'; exit 17', "old-runtime", "needs 9"),
    ],
)
def test_a_program_that_fails_is_told_with_its_last_words(target, script, status, words):
    with pytest.raises(DeviceFailed, match=words) as failed:
        list(target.run(["sh", "-c", script], 60))
    assert failed.value.status == status


def test_a_program_that_takes_too_long_is_killed_there(machine, target):
    with pytest.raises(DeviceFailed, match="not finished after 1 s") as failed:
        list(target.run(["sleep", "4321"], 1))
    assert failed.value.status == "timeout"
    assert machine.ssh("pgrep -f 'sleep 4321' || true") == "", "it runs on"


def test_closing_the_iterator_kills_the_program_there(machine, target):
    lines = target.run(["sh", "-c", "echo begun; sleep 5432"], 60)
    assert next(lines) == "begun"
    lines.close()
    assert machine.ssh("pgrep -f 'sleep 5432' || true") == "", "it runs on"


def test_a_connection_that_is_cut_is_lost_and_the_program_works_on(machine, target):
    lines = target.run(["sh", "-c", f"echo begun; sleep 3; echo done >{REMOTE}/proof"], 60)
    assert next(lines) == "begun"
    subprocess.run(["pkill", "-9", "-f", f"ssh -M -N.*-p {machine.port}"], check=True)
    with pytest.raises(DeviceFailed) as failed:
        list(lines)
    assert failed.value.status == "lost"
    target.reconnect(30)
    time.sleep(3)
    assert machine.ssh(f"cat {REMOTE}/proof; rm {REMOTE}/proof") == "done\n", "it was killed with the connection"


def test_no_connection_outlives_a_process_that_was_killed(machine):
    script = (
        "import os, signal, sys\n"
        "from edgeslim.deploy.targets.ssh import open_target\n"
        "with open_target(sys.argv[1]):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    before = masters()
    done = subprocess.run([sys.executable, "-c", script, machine.address], check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while masters() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert masters() <= before, "an ssh process was left"


def test_what_a_killed_session_left_there_is_removed_by_the_next(machine):
    script = (
        "import os, signal, sys\n"
        "from edgeslim.deploy.targets.ssh import open_target\n"
        "with open_target(sys.argv[1]):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, machine.address], check=False)
    machine.ssh(f"mkdir {REMOTE}/run-1.2.3-of_another_machine {REMOTE}/run-mine")
    assert len(machine.ssh(f"ls {REMOTE}").split()) == 4
    with open_target(machine.address), open_target(machine.address):
        assert len(machine.ssh(f"ls {REMOTE}").split()) == 5, "a session that lives lost its folder"
    assert machine.ssh(f"ls {REMOTE}").split() == ["kept", "run-1.2.3-of_another_machine", "run-mine"]
    machine.ssh(f"rm -r {REMOTE}/run-*")


def test_what_a_session_left_there_goes_with_it(machine, blob):
    with open_target(machine.address) as opened:
        opened.push(blob)
        assert files_there(machine), "nothing was sent"
    assert machine.ssh(f"ls {REMOTE}") == "kept\n", "the session's folder is still there"


def test_a_file_that_does_not_fit_is_refused_before_anything_is_sent(machine, target, blob):
    filler = fill(machine, leave=MEGABYTE)
    try:
        with pytest.raises(
            DeviceFailed, match=r"1\.?\d* MB are to be sent, .* MB are free in /root/edgeslim"
        ) as failed:
            target.push(blob)
        assert failed.value.status == "disk-full"
        assert not [one for one in files_there(machine) if "blob" in one], "a part of it was sent"
    finally:
        machine.ssh(f"rm {filler}")


def test_a_disk_that_fills_up_on_the_way_leaves_no_part(machine, target, blob):
    large = blob.with_name("large.bin")
    large.write_bytes(blob.read_bytes() * 16)
    fill(machine, leave=20 * MEGABYTE)  # enough for it, until it is on its way
    begun = f"find {REMOTE} -name large.bin.part | grep -q ."
    take_the_rest = f"while ! {begun}; do sleep 0.05; done; dd if=/dev/zero of=/root/rest bs=64k"
    machine.ssh(f"({take_the_rest}) >/dev/null 2>&1 &")
    try:
        with pytest.raises(DeviceFailed) as failed:
            target.push(large)
        assert failed.value.status == "disk-full", failed.value
        assert not [one for one in files_there(machine) if "large" in one], "a part was left"
    finally:
        machine.ssh("rm -f /root/filler /root/rest")


def fill(machine, leave):
    """Fill the machine's disk but for some bytes; return the file that does it."""
    free = int(machine.ssh("df -Pk /root | tail -n 1 | awk '{print $4}'")) * 1024
    machine.ssh(f"fallocate -l {free - leave} /root/filler")
    return "/root/filler"


def test_small_files_are_read_by_pattern_and_unreadable_ones_left_out(target):
    found = target.look(["/proc/sys/kernel/osrelease", "/sys/class/net/*/mtu", "/nowhere/*"])
    assert found["/proc/sys/kernel/osrelease"].strip().endswith("arm64"), "it is not the other machine's"
    assert "/sys/class/net/eth0/mtu" in found, "the pattern was not expanded there"
    assert not [path for path in found if "nowhere" in path], "a pattern without files gave one"


@pytest.mark.parametrize(
    ("known", "own_key", "status"),
    [
        ("another", False, "host-key-changed"),
        ("none", False, "host-key-unknown"),
        ("right", True, "login-refused"),
    ],
)
def test_a_machine_that_is_not_the_known_one_or_does_not_know_us_is_refused(
    machine, known, own_key, status, tmp_path, monkeypatch
):
    right = (machine.ssh_config.parent / "known_hosts").read_text()
    stranger = make_key(tmp_path / "stranger")
    another = " ".join([right.split()[0], *stranger.with_suffix(".pub").read_text().split()[:2]])
    hosts = tmp_path / "known_hosts"
    hosts.write_text({"right": right, "another": f"{another}\n", "none": ""}[known])
    config = machine.write_config(tmp_path / "config", hosts, stranger if own_key else None)
    monkeypatch.setenv("EDGESLIM_SSH_CONFIG", str(config))
    before = machine.ssh(f"ls -R {REMOTE} 2>&1 || true")
    with pytest.raises(DeviceFailed) as failed, open_target(machine.address):
        pass
    assert failed.value.status == status, failed.value
    assert failed.value.next_step, "no next step"
    assert machine.ssh(f"ls -R {REMOTE} 2>&1 || true") == before, "something was written there"


def test_a_host_that_does_not_answer_is_unreachable():
    with pytest.raises(DeviceFailed) as failed, open_target("ssh://root@127.0.0.1:1"):
        pass
    assert failed.value.status == "unreachable", failed.value


@pytest.mark.parametrize("address", ["ssh://", "ssh://host:port", "ssh:/host", "ssh://a@b@c"])
def test_another_form_of_address_is_bad_input(address):
    with pytest.raises(BadInput, match="expected ssh://user@host:port"), open_target(address):
        pass


def test_a_file_that_is_not_here_is_bad_input_and_one_that_is_not_there_a_device_failure(target, tmp_path):
    with pytest.raises(BadInput, match=r"gone\.bin does not exist"):
        target.push(Path("gone.bin"))
    with pytest.raises(DeviceFailed, match=r"/root/gone\.npy does not exist on ssh://"):
        target.pull("/root/gone.npy", tmp_path / "gone.npy")
    assert not list(tmp_path.iterdir()), "an empty file was left"
