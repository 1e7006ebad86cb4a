"""A diagnostic that cannot be read is one sentence; what the user gave wrong is still raised."""

import pytest

from edgeslim.errors import BadInput, ToolFailed, or_warning


def fails_with(error: Exception):
    def find() -> int:
        raise error

    return find


def test_what_a_diagnostic_finds_comes_without_a_warning():
    assert or_warning("the figure", lambda: 7) == (7, [])


@pytest.mark.parametrize("error", [ValueError("cannot reshape\n  array of size 128"), ToolFailed("no runtime")])
def test_whatever_a_diagnostic_stumbles_over_is_one_sentence(error):
    found, warnings = or_warning("error by depth", fails_with(error))
    reason = " ".join(str(error).split())
    assert (found, warnings) == (None, [f"error by depth cannot be read: {type(error).__name__}: {reason}"])


def test_an_error_without_words_is_told_so():
    assert or_warning("the figure", fails_with(KeyError()))[1] == [
        "the figure cannot be read: KeyError: no reason given"
    ]


def test_bad_input_and_an_interrupt_are_no_diagnostic():
    with pytest.raises(BadInput, match="no such file"):
        or_warning("the figure", fails_with(BadInput("no such file")))
    with pytest.raises(KeyboardInterrupt):
        or_warning("the figure", fails_with(KeyboardInterrupt()))
