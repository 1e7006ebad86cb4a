"""Raw times become one figure, the same bytes each time, and only what was measured alike stands in it."""

import re
from dataclasses import replace

import pytest

from edgeslim.errors import BadInput
from edgeslim.report.latency_plot import distributions
from tests.support.made_measurements import PLACE, doubt, made_of, measured, noise, process

pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install matplotlib")


@pytest.fixture
def drawn(tmp_path):
    """`drawn(measurements)` draws them and returns the figure's lines of text: matplotlib names each in a comment."""

    def texts(measurements):
        file = tmp_path / "times.svg"
        distributions(measurements, file)
        assert file.read_text().startswith("<?xml"), "no SVG came out"
        assert list(tmp_path.iterdir()) == [file], "something was left beside the figure"
        return re.findall(r"<!-- (.*?) -->", file.read_text(), re.DOTALL)

    return texts


def pair(factor=1.0):
    """A file in fp32 and one in INT8."""
    return [
        measured(factor * 0.002 * noise(1), "onnx fp32", precision_requested="fp32"),
        measured(factor * 0.001 * noise(2), "onnx int8"),
    ]


def test_every_file_stands_in_the_figure_with_its_median_and_interval(drawn):
    texts = drawn(pair())
    for label, unit in (("onnx fp32", "ms"), ("onnx int8", "ms")):
        beside = texts[texts.index(label) + 1]
        assert re.fullmatch(rf"[\d.]+ {unit} \([\d.]+ (ms|µs) to [\d.]+ {unit}\)", beside), f"{label} has {beside}"


def test_the_figure_says_where_and_how_it_was_measured(drawn):
    texts = "\n".join(drawn([replace(one, threads=4, streams=2) for one in pair()]))
    assert "measured on Raspberry Pi 4 Model B Rev 1.5; these are times of that machine" in texts, "not where"
    assert "single-stream, 4 threads in each of 2 streams" in texts, "not how"


def test_every_process_is_drawn(drawn, tmp_path):
    counts = []
    for processes in (5, 6):
        drawn([measured(0.002 * noise(1, processes=processes))])
        counts.append((tmp_path / "times.svg").read_text().count("<g id="))
    assert counts[1] > counts[0], "a sixth process adds nothing to the figure"


@pytest.mark.parametrize(("factor", "unit"), [(1e3, "s"), (1, "ms"), (1e-6, "µs")])
def test_times_are_drawn_in_a_unit_that_suits_the_fastest(drawn, factor, unit):
    assert f"time of an inference, {unit}" in drawn(pair(factor)), f"not in {unit}"


def test_medians_far_apart_are_drawn_on_a_logarithmic_axis(drawn):
    near = drawn([measured([0.001] * 5, "a"), measured([0.004] * 5, "b")])
    far = drawn([measured([0.001] * 5, "a"), measured([0.1] * 5, "b")])
    assert near[0] in ("0", "0.0"), "a linear axis begins at zero"
    assert not {"0", "0.0"} & set(far), "nothing is zero on a logarithmic axis"
    assert {"1.0", "10.0", "100.0"} <= set(far), "the decades have no plain numbers"


def test_what_lies_beyond_the_99th_percentile_is_counted_and_not_drawn(drawn):
    plain = measured(0.001 * noise(1), times=noise(2, processes=100))
    first, *others = plain.processes
    slow = replace(plain, processes=(replace(first, samples_s=(*first.samples_s[:-1], 0.5)), *others))
    plain, cut = drawn([plain]), drawn([slow])
    count = sum(len(run.samples_s) for run in slow.processes)
    assert "beyond, to 500 ms" in next(text for text in cut if f" of {count:,} beyond" in text), "that is not told"
    numbers = [[float(one) for one in texts if re.fullmatch(r"[\d.]+", one)] for texts in (plain, cut)]
    assert max(numbers[1]) <= 2 * max(numbers[0]), "two slow times press all others together"


@pytest.mark.parametrize("times", [[0.001] * 8 + [0.002], [0.001] * 300 + [0.00105] * 2])
def test_few_times_and_those_that_lie_near_are_drawn_all(drawn, times):
    assert not [text for text in drawn([made_of(process(*times))]) if "beyond" in text]


@pytest.mark.parametrize(
    ("ending", "begin"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_the_ending_says_the_format(tmp_path, ending, begin):
    files = [tmp_path / f"{name}.{ending}" for name in ("one", "two")]
    for file in files:
        distributions(pair(), file)
    assert files[0].read_bytes().startswith(begin)
    assert files[0].read_bytes() == files[1].read_bytes(), "the figure holds a date, or random names"


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"times\.gif: expected a file that ends in \.svg, \.png or \.pdf"):
        distributions(pair(), tmp_path / "times.gif")
    assert list(tmp_path.iterdir()) == []


def test_doubts_stand_beside_the_file_they_are_about(drawn):
    texts = drawn([measured([0.001] * 9, "sure"), measured([0.001] * 9, "unsure", seen=(doubt("clocks"),) * 2)])
    assert texts.count("clocks") == 1, "a doubt is not in the figure, or twice"
    assert texts.index("clocks") == texts.index("unsure") + 2, "the doubt stands beside another file"


def test_one_time_of_one_process_can_be_drawn(drawn):
    texts = drawn([made_of(process(0.001))])
    assert texts[texts.index("int8") + 1] == "1 ms (1 ms to 1 ms)", "the single time is missing"


def test_only_precisions_in_the_figure_are_in_its_key(drawn):
    assert {"fp32", "int8"} <= set(drawn(pair())), "a colour has no word"
    assert "fp32" not in drawn([measured([0.001] * 5)]), "the key names what is not there"


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(BadInput, match="nothing to draw: no measurement is complete"):
        distributions([], tmp_path / "times.svg")
    assert list(tmp_path.iterdir()) == [], "an empty figure was written"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"place": replace(PLACE, name="Raspberry Pi 5")}, "Rev 1.5, single-stream, .* and Raspberry Pi 5, single"),
        ({"scenario": "offline"}, "single-stream, 1 thread and .*, offline, 1 thread$"),
        ({"threads": 4}, "1 thread and .*, 4 threads$"),
        ({"streams": 2}, "1 thread in each of 2 streams$"),
    ],
)
def test_what_was_measured_differently_is_not_drawn_together(tmp_path, changes, said):
    fp32, int8 = pair()
    with pytest.raises(BadInput, match=f"one figure cannot hold what was measured differently: .*{said}"):
        distributions([fp32, replace(int8, **changes)], tmp_path / "times.svg")
    assert list(tmp_path.iterdir()) == [], "it was drawn all the same"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"cannot write .*gone/times\.svg: .*--plot"):
        distributions(pair(), tmp_path / "gone" / "times.svg")
