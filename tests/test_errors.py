"""A diagnostic that cannot be read is one sentence; what the user gave wrong is still raised."""

import pytest

from edgeslim.errors import BadInput, ToolFailed, try_diagnostic


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
