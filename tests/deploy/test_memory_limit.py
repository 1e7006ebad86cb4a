"""The memory limit's own script, run by a real shell; a tree with plain files stands in for the control groups."""

import subprocess

import pytest

from edgeslim.deploy.exit_status import ended
from edgeslim.deploy.memory_limit import CGROUPS, NO_GROUP, OUT_OF_MEMORY, limited
from edgeslim.devices.machine import small_files
from edgeslim.errors import DeviceFailed

LIMIT_BYTES = 64 * 2**20
V2 = ("sys/fs/cgroup", "cgroup.controllers", "cpu memory pids\n", "memory.max", "memory.events")
V1 = ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "9223372036854771712\n", "memory.limit_in_bytes",
      "memory.oom_control")  # fmt: skip
# A control group's folder goes with the files that the kernel shows in it; a plain folder would have to be empty.
RMDIR = '#!/bin/sh\nexec rm -r "$@"\n'


@pytest.fixture(params=[V2, V1], ids=["version 2", "version 1"])
def groups(request, tmp_path, monkeypatch):
    """The control groups of a device, of either version."""
    return Groups(tmp_path, monkeypatch, *request.param)


class Groups:
    def __init__(self, tmp_path, monkeypatch, place, sign, text, limit_file, events):
        self.root, self.top, self.limit_file, self.events = tmp_path, tmp_path / place, limit_file, events
        self.top.mkdir(parents=True)
        (self.top / sign).write_text(text)
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "rmdir").write_text(RMDIR)
        (tools / "rmdir").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")

    def run(self, script, *words):
        """Run a shell script under the limit; it finds its group's folder in $group."""
        find = f"group=$(echo {self.top}/edgeslim-*); {script}"
        argv = limited(["sh", "-c", find, "sh", *words], LIMIT_BYTES, small_files(self.root, CGROUPS), str(self.root))
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def left(self):
        return [one.name for one in self.top.glob("edgeslim-*")]


def test_the_program_runs_in_a_group_of_its_own_with_the_limit_written(groups):
    done = groups.run(f'cat "$group/{groups.limit_file}" "$group/cgroup.procs"; echo "$1"', "a b's")
    assert done.stdout.splitlines() == [str(LIMIT_BYTES), "0", "a b's"], "limit, who enters the group, or its words"
    assert (done.returncode, done.stderr) == (0, ""), "it failed, or the shell complained"
    assert not groups.left(), "the group was left"


def test_no_swap_is_given_beyond_the_limit(groups):
    done = groups.run('cat "$group"/memory.swap.max "$group"/memory.memsw.limit_in_bytes 2>/dev/null')
    assert done.stdout.strip() in ("0", str(LIMIT_BYTES)), "swap would let it take more"


@pytest.mark.parametrize("code", [0, 3, 17])
def test_the_programs_exit_code_passes_through_and_the_group_goes(groups, code):
    assert groups.run(f"exit {code}").returncode == code
    assert not groups.left(), "the group was left"


def test_a_signal_passes_through_as_a_shell_tells_it(groups):
    done = groups.run("kill -SEGV $$")
    error = ended(["agent"], done.returncode, "", "", out_of_memory=False)
    assert (error.status, "SIGSEGV" in str(error)) == ("killed", True), error


def test_a_kill_that_the_group_counted_is_out_of_memory(groups):
    done = groups.run(f"printf 'low 0\\noom_kill 1\\n' >$group/{groups.events}; kill -KILL $$")
    assert done.returncode == OUT_OF_MEMORY
    assert ended(["agent"], done.returncode, "", "", out_of_memory=False).status == "oom", "the status is another"
    assert not groups.left(), "the group was left"


def test_a_kill_that_the_group_did_not_count_is_none(groups):
    done = groups.run(f"printf 'oom_kill_disable 0\\noom_kill 0\\n' >$group/{groups.events}; exit 5")
    assert done.returncode == 5, "a group without a kill was taken for one with it"


def test_where_no_group_can_be_made_the_program_is_not_started(groups):
    argv = limited(["touch", str(groups.root / "ran")], LIMIT_BYTES, small_files(groups.root, CGROUPS), "/nowhere")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == NO_GROUP
    assert "only root may" in str(ended(["agent"], NO_GROUP, "", done.stderr, out_of_memory=False)), (
        "the reason is lost"
    )
    assert not (groups.root / "ran").exists(), "it ran without a limit"


@pytest.mark.parametrize("file", ["limit", "cgroup.procs"])
def test_where_the_group_cannot_be_limited_or_entered_the_program_is_not_started_and_no_group_left(groups, file):
    name = groups.limit_file if file == "limit" else file
    # The kernel shows files that cannot be written; here a folder is where the file would be.
    mkdir = groups.root / "tools" / "mkdir"
    mkdir.write_text(f'#!/bin/sh\n/bin/mkdir "$@" && /bin/mkdir "$1/{name}"\n')
    mkdir.chmod(0o755)
    done = groups.run(f"touch {groups.root}/ran")
    assert done.returncode == NO_GROUP, done.stderr
    assert not (groups.root / "ran").exists(), "it ran without a limit"
    assert not groups.left(), "the group was left"


def test_a_group_that_an_earlier_run_left_behind_goes_first(groups):
    (groups.top / "edgeslim-4711").mkdir()
    assert groups.run("echo $group").stdout.split("/")[-1].strip() != "edgeslim-4711", "it ran in the old one"
    assert not groups.left(), "the old group is still there"


def test_a_kernel_without_limits_of_swap_is_no_word_on_stderr(groups):
    (groups.top / "cgroup.subtree_control").mkdir()  # cannot be written to, like the files below
    mkdir = groups.root / "tools" / "mkdir"
    mkdir.write_text('#!/bin/sh\n/bin/mkdir "$@" "$1/memory.swap.max" "$1/memory.memsw.limit_in_bytes"\n')
    mkdir.chmod(0o755)
    done = groups.run("exit 0")
    assert (done.returncode, done.stderr) == (0, ""), "a missing file of the kernel looks like a failure"


@pytest.mark.parametrize("files", [{}, {"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu pids\n"}])
def test_a_device_without_memory_control_groups_is_refused(files):
    with pytest.raises(DeviceFailed, match="offers no memory control group"):
        limited(["agent"], LIMIT_BYTES, files)


def test_version_1_is_taken_where_only_it_has_the_memory(tmp_path):
    both = {"/sys/fs/cgroup/cgroup.controllers": "cpu\n", "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1\n"}
    assert "memory.limit_in_bytes" in limited(["agent"], LIMIT_BYTES, both)[2], "the hybrid layout is refused"
