"""An error says what is wrong and what to do; a diagnostic that cannot be read is one sentence."""

import pickle

import pytest

from edgeslim.errors import BadInput, DeviceFailed, MissingPackage, Refused, ToolFailed, try_diagnostic


@pytest.mark.parametrize(
    ("error", "words", "sentence"),
    [
        (BadInput("no such file"), "no such file", "no such file"),
        (BadInput("no such file", "name another"), "no such file\nhelp: name another", "no such file; name another"),
        (
            Refused("rejected:", ["too large", "too slow"], "prune it\nor allow more"),
            "rejected:\n  - too large\n  - too slow\nhelp: prune it\nhelp: or allow more",
            "rejected: - too large - too slow; prune it or allow more",
        ),
        (
            DeviceFailed("the board is silent", "timeout"),
            "the board is silent\nhelp: the device or the model is too slow for the limit, or the program hangs",
            "the board is silent; the device or the model is too slow for the limit, or the program hangs",
        ),
        (
            MissingPackage("onnx", "onnx"),
            "onnx is not installed\nhelp: pip install 'edgeslim[onnx]'",
            "onnx is not installed; pip install 'edgeslim[onnx]'",
        ),
    ],
)
def test_what_to_do_stands_on_lines_of_its_own_or_in_the_sentence(error, words: str, sentence: str):
    assert (str(error), error.sentence) == (words, sentence)


def test_an_error_comes_whole_out_of_another_process():
    sent = Refused("rejected:", ["too large"], "prune it")
    got = pickle.loads(pickle.dumps(sent))
    assert (str(got), got.reasons, got.next_step) == (str(sent), sent.reasons, sent.next_step)


def fails_with(error: Exception):
    def find() -> int:
        raise error

    return find


def test_what_a_diagnostic_finds_comes_without_a_warning():
    assert try_diagnostic("the figure", lambda: 7) == (7, [])


@pytest.mark.parametrize("error", [ValueError("cannot reshape\n  array of size 128"), ToolFailed("no runtime")])
def test_whatever_a_diagnostic_stumbles_over_is_one_sentence(error):
    found, warnings = try_diagnostic("error by depth", fails_with(error))
    reason = " ".join(str(error).split())
    assert (found, warnings) == (None, [f"error by depth is missing: {type(error).__name__}: {reason}"])


def test_an_error_without_words_is_told_so():
    assert try_diagnostic("the figure", fails_with(KeyError()))[1] == [
        "the figure is missing: KeyError: no reason given"
    ]


def test_bad_input_and_an_interrupt_are_no_diagnostic():
    with pytest.raises(BadInput, match="no such file"):
        try_diagnostic("the figure", fails_with(BadInput("no such file")))
    with pytest.raises(KeyboardInterrupt):
        try_diagnostic("the figure", fails_with(KeyboardInterrupt()))
