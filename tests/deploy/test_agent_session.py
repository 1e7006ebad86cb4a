"""What an agent says is read in full or refused."""

import json

import pytest

from edgeslim.deploy.agent_session import read_session
from edgeslim.errors import DeviceFailed
from edgeslim.resources import bundled

GOLDEN = (bundled("runtimes") / "golden_session.jsonl").read_text().splitlines()


def test_the_golden_session_is_read_in_full():
    session = read_session(GOLDEN)
    times = [json.loads(line) for line in GOLDEN if '"time"' in line]
    assert len(session.samples_s) == sum(len(message["seconds"]) for message in times) > 0, "a raw time was lost"
    assert session.hello.runtime_version == json.loads(GOLDEN[0])["runtime_version"], "the version was lost"
    assert session.window.inferences == len(session.samples_s), "the window was lost"
    assert session.memory.peak_rss_bytes > session.memory.rss_before_load_bytes > 0, "the memory was lost"
    assert session.executors == {"CPUExecutionProvider": len(session.graph)}, "the placement was lost"
    assert "QLinearConv" in [node.op for node in session.graph], "the graph was lost"
    assert session.precision_actual == "uint8", "the precision was lost"


def test_several_batches_of_times_are_joined_in_order():
    first = next(index for index, line in enumerate(GOLDEN) if '"time"' in line)
    more = [json.dumps({"type": "time", "seconds": [float(i), i + 0.5]}) for i in (1, 2)]
    session = read_session([*GOLDEN[:first], *more, *GOLDEN[first + 1 :]])
    assert session.samples_s == (1.0, 1.5, 2.0, 2.5), "times are lost or out of order"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([GOLDEN[0].replace('"protocol": 2', '"protocol": 1')], "line 1: `hello` in protocol 2 was expected"),
        (GOLDEN[1:], "line 1: `hello` in protocol 2 was expected"),
        ([GOLDEN[0], "Created delegate for CPU."], "line 2 is no message .*Created delegate"),
        ([GOLDEN[0], '{"type": "weather"}'], "line 2 is no message"),
        ([GOLDEN[0], '{"type": "init", "seconds": "1"}'], r"line 2 is no message \(init.seconds"),
        ([GOLDEN[0], '{"type": "init", "seconds": 1.0, "unit": "s"}'], r"line 2 is no message \(init.unit"),
        (GOLDEN[:-1], "incomplete"),
        ([], "incomplete; it holds only nothing"),
        ([GOLDEN[0], '{"type": "error", "reason": "bad-input", "message": "no"}'], "bad-input: no"),
    ],
)
def test_a_session_that_breaks_the_protocol_is_refused(lines, complaint):
    with pytest.raises(DeviceFailed, match=complaint):
        read_session(lines)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_that_was_cut_in_the_middle_is_a_protocol_error(cut):
    with pytest.raises(DeviceFailed, match=r"line 3 is no message") as caught:
        read_session([*GOLDEN[:2], GOLDEN[2][:-cut], *GOLDEN[3:]])
    assert caught.value.status == "protocol", "a cut line has another status"
