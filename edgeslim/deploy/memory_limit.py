"""A memory limit that the kernel enforces on one program: a control group of its own, version 1 or 2."""

import shlex
from collections.abc import Mapping, Sequence

from edgeslim.errors import DeviceFailed

V2_CONTROLLERS, V1_LIMIT = "/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
CGROUPS = (V2_CONTROLLERS, V1_LIMIT)
NO_GROUP, OUT_OF_MEMORY = 97, 96  # the wrapper's own exit codes: the program was not started; the limit killed it

# A group is made, entered by a child, and the program takes the child's place; then the group says whether its limit
# killed, and goes. One that an earlier run left behind, because it was killed itself, goes first. Limits of swap are
# not there on every kernel: stderr is turned away first, or the shell complains that it cannot open them.
_GIVE_UP = f"{{ rmdir $group 2>/dev/null; exit {NO_GROUP}; }}"
_V2 = """
top=/sys/fs/cgroup events=memory.events
rmdir $top/edgeslim-* 2>/dev/null
group=$top/edgeslim-$$
echo +memory 2>/dev/null >$top/cgroup.subtree_control
mkdir $group && echo {limit} >$group/memory.max || {give_up}
echo 0 2>/dev/null >$group/memory.swap.max
"""
_V1 = """
top=/sys/fs/cgroup/memory events=memory.oom_control
rmdir $top/edgeslim-* 2>/dev/null
group=$top/edgeslim-$$
mkdir $group && echo {limit} >$group/memory.limit_in_bytes || {give_up}
echo {limit} 2>/dev/null >$group/memory.memsw.limit_in_bytes
"""
_RUN = """
(echo 0 >$group/cgroup.procs || exit {no_group}; exec "$@")
status=$?
grep -q "^oom_kill [1-9]" $group/$events 2>/dev/null && status={out_of_memory}
rmdir $group 2>/dev/null
exit $status
"""


def limited(argv: Sequence[str], limit_bytes: int, files: Mapping[str, str], root: str = "") -> list[str]:
    """Return a command that runs `argv` in a control group with so much memory and no swap.

    `files` are the device's (path -> text, of CGROUPS). The command ends as the program does, with OUT_OF_MEMORY where
    the limit killed it, and with NO_GROUP where the group cannot be made. `root` goes before /sys, for a tree that
    stands in for it. Raises DeviceFailed where the device has no control groups for memory.
    """
    if "memory" in files.get(V2_CONTROLLERS, "").split():
        script = _V2
    elif V1_LIMIT in files:
        script = _V1
    else:
        raise DeviceFailed("the device offers no memory control group, so no memory limit can be enforced there")
    made = (script + _RUN).format(limit=limit_bytes, give_up=_GIVE_UP, no_group=NO_GROUP, out_of_memory=OUT_OF_MEMORY)
    return ["sh", "-c", made.replace("=/sys/fs", f"={shlex.quote(root)}/sys/fs" if root else "=/sys/fs"), "sh", *argv]
