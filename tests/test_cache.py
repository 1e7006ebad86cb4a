"""A result is computed once for everything it depends on, and a file of the store is whole or not there."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from edgeslim.cache import graph_sha256, remember
from edgeslim.errors import Recomputed, ToolFailed
from edgeslim.model.graph import batched, trace
from edgeslim.resources import default_store
from tests.support.small_models import SIDE, plain, randomized

WRITER = """
import sys, torch
from pathlib import Path
from edgeslim.cache import remember
for number in range(10_000):
    print(number, flush=True)
    remember(Path(sys.argv[1]), "step", number, lambda: {"values": torch.full((200_000,), float(number))})
"""


def never() -> None:
    pytest.fail("it is computed a second time")


def only_file(store: Path) -> Path:
    (file,) = [path for path in store.rglob("*") if path.is_file()]
    return file


def test_what_was_computed_once_is_not_computed_again(tmp_path):
    result = {"order": [2, 0, 1], "divergence": [0.5, float("inf")], "state": {"weight": torch.randn(3, 4)}}
    first = remember(tmp_path, "curve", ["network", 8, {"b": 1, "a": [2]}], lambda: result)
    again = remember(tmp_path, "curve", ["network", 8, {"a": [2], "b": 1}], never)
    assert first is result
    assert again["order"] == result["order"]
    assert again["divergence"] == result["divergence"]
    assert torch.equal(again["state"]["weight"], result["state"]["weight"])


@pytest.mark.parametrize(
    ("step", "depends_on"), [("curve", ["network", 16]), ("curve", ["other", 8]), ("candidate", ["network", 8])]
)
def test_another_step_or_anything_else_that_it_depends_on_is_another_result(tmp_path, step, depends_on):
    remember(tmp_path, "curve", ["network", 8], lambda: "old")
    assert remember(tmp_path, step, depends_on, lambda: "new") == "new"
    assert remember(tmp_path, "curve", ["network", 8], never) == "old"


def test_without_a_store_everything_is_computed_every_time():
    assert [remember(None, "curve", [], lambda value=value: value) for value in (1, 2)] == [1, 2]


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def one_bit_changed(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut_short, one_bit_changed, lambda _: b"", lambda _: b"no such thing"])
def test_a_damaged_file_is_computed_anew(tmp_path, damage):
    values = torch.arange(10_000.0)
    remember(tmp_path, "curve", 1, lambda: values)
    file = only_file(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(Recomputed, match="is damaged; it is made anew"):
        assert torch.equal(remember(tmp_path, "curve", 1, values.clone), values)
    assert torch.equal(remember(tmp_path, "curve", 1, never), values)


def test_a_link_in_the_store_is_not_followed(tmp_path):
    remember(tmp_path / "store", "curve", 1, lambda: "mine")
    file = only_file(tmp_path / "store")
    (tmp_path / "elsewhere").write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(Recomputed, match="is a link, no file, or another user's"):
        assert remember(tmp_path / "store", "curve", 1, lambda: "new") == "new"
    assert not file.is_symlink()
    assert (tmp_path / "elsewhere").exists(), "what the link led to is gone"


def test_the_store_is_for_its_user_alone(tmp_path):
    remember(tmp_path / "store", "curve", 1, lambda: "mine")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "store", tmp_path / "store" / "curve")} == {0o700}
    (tmp_path / "store").chmod(0o777)
    with pytest.raises(ToolFailed, match=r"others may write to it; name another folder in EDGESLIM_CACHE"):
        remember(tmp_path / "store", "curve", 2, lambda: "mine")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    with pytest.raises(ToolFailed, match="it is a link"):
        remember(tmp_path / "link", "curve", 2, lambda: "mine")


def test_a_file_with_code_inside_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    remember(tmp_path, "curve", 1, lambda: "good")
    torch.save(Harmful(), only_file(tmp_path))
    with pytest.warns(Recomputed, match="is damaged"):
        assert remember(tmp_path, "curve", 1, lambda: "good") == "good"
    assert not (tmp_path / "harm").exists()


def test_a_result_that_failed_is_not_kept(tmp_path):
    def fail() -> None:
        raise RuntimeError("no result")

    with pytest.raises(RuntimeError, match="no result"):
        remember(tmp_path, "curve", 1, fail)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert remember(tmp_path, "curve", 1, lambda: "result") == "result"


def test_a_result_that_cannot_be_written_leaves_no_file(tmp_path):
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        remember(tmp_path, "curve", 1, lambda: (number for number in range(3)))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_killed_process_leaves_whole_files_only(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    ) as writer:
        for line in writer.stdout:
            if int(line) == 20:
                time.sleep(0.0031)
                writer.send_signal(signal.SIGKILL)
                break
        last = max([20, *map(int, writer.stdout.read().split())])
    for number in range(last):
        assert remember(tmp_path, "step", number, never)["values"][0] == number
    values = remember(tmp_path, "step", last, lambda: None)  # it was killed before, while or after this was written
    assert values is None or torch.equal(values["values"], torch.full((200_000,), float(last)))


def test_the_store_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("EDGESLIM_CACHE", raising=False)
    assert default_store() == tmp_path / ".cache" / "edgeslim"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_store() == tmp_path / "cache" / "edgeslim"
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path / "mine"))
    assert default_store() == tmp_path / "mine"


@torch.no_grad()
def test_the_hash_of_a_graph_changes_with_any_value_and_any_operator():
    def opened(network):
        return batched(trace(network, (1, 3, SIDE, SIDE)))

    network = randomized(plain())
    same = graph_sha256(opened(network))
    assert graph_sha256(opened(network)) == same
    network[1].running_mean[2] += 1e-6
    assert graph_sha256(opened(network)) != same
    network[1].running_mean[2] -= 1e-6
    network[2] = torch.nn.ReLU6()
    assert graph_sha256(opened(network)) != same


def test_a_store_that_cannot_be_written_is_named_with_the_way_out(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ToolFailed, match=r"cannot keep results in .*taken: .*; name another folder in EDGESLIM_CACHE"):
        remember(tmp_path / "taken", "curve", 1, lambda: 1)


def test_a_full_disk_leaves_no_piece_of_a_file(tmp_path, monkeypatch):
    def full(_path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ToolFailed, match="No space left on device"):
        remember(tmp_path, "curve", 1, lambda: 1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
