"""Quantities as people write them ("4 GiB", "1.8 GHz", "40 ms") to numbers in base units, and back."""

import re

_FACTORS: dict[str, dict[str, float]] = {
    "bytes": {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9},
    "hertz": {"Hz": 1, "kHz": 10**3, "MHz": 10**6, "GHz": 10**9},
    "seconds": {"s": 1, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "min": 60},
    "watts": {"W": 1, "mW": 1e-3},
    "bytes per second": {"GB/s": 10**9, "MB/s": 10**6},
    "floating-point operations per second": {"GFLOPS": 10**9, "TFLOPS": 10**12},
    "operations per second": {"GOPS": 10**9, "TOPS": 10**12},
}


def plain(text: str) -> str:
    """Return text with its control characters, a terminal's commands among them, spelled out; line ends stay."""
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def pattern(kind: str) -> str:
    """Return the regular expression of a quantity of `kind`, whose groups are its number and its unit."""
    return rf"^\s*([0-9]+(?:\.[0-9]+)?)\s*({'|'.join(_FACTORS[kind])})\s*$"


def parse(text: str, kind: str) -> float:
    """Return `text` ("1.8 GHz") in the base unit of `kind` (hertz); ValueError says what was expected."""
    units = _FACTORS[kind]
    match = re.fullmatch(pattern(kind), text.replace("\u03bc", "µ"))
    if match is None:
        raise ValueError(f"`{text}` is not a quantity of {kind}; write a number and one of {', '.join(units)}")
    return float(match[1]) * units[match[2]]


def show(value: float, kind: str) -> str:
    """Return `value`, in the base unit of `kind`, in the largest unit that keeps it at 1 or above ("1.8 GHz")."""
    if kind == "bytes":
        binary = show_memory(value)
        return binary if parse(binary, kind) == value else show_bytes(value)  # as whoever wrote it will have meant it
    if kind == "seconds":
        return show_seconds(value)
    by_size = sorted(_FACTORS[kind].items(), key=lambda item: item[1])
    unit, factor = next((item for item in reversed(by_size) if item[1] <= value), by_size[0])
    return f"{value / factor:g} {unit}"


def show_bytes(count: float) -> str:
    """Return the size of what is stored or moved in decimal units, as disks are sold: "512 B", "1.4 MB"."""
    return _in_largest(count, ("GB", "MB", "KB"))


def show_memory(count: float) -> str:
    """Return an amount of memory in binary units, as memory is built: "384 KiB", "35.1 MiB", "4 GiB"."""
    return _in_largest(count, ("GiB", "MiB", "KiB"))


def show_seconds(seconds: float) -> str:
    """Return a duration as "317 µs", "1.24 ms", "38.1 ms" or "2.5 s"."""
    if seconds >= 1:
        return f"{_three_digits(seconds)} s"
    return f"{_three_digits(seconds * 1e3)} ms" if seconds >= 1e-3 else f"{_three_digits(seconds * 1e6)} µs"


def show_rate(per_second: float) -> str:
    """Return how many there are in a second: "22,170/s", "0.52/s"."""
    return f"{per_second:,.0f}/s" if per_second >= 100 else f"{per_second:.3g}/s"


def _in_largest(count: float, units: tuple[str, ...]) -> str:
    for unit in units:
        factor = _FACTORS["bytes"][unit]
        if count >= factor:
            return f"{_three_digits(count / factor)} {unit}"
    return f"{count:.0f} B"


def show_duration(seconds: float) -> str:
    """Return how long something takes that takes a while: "40.2 s", "9.2 min" or "2.5 h"."""
    for unit, factor in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * factor:
            return f"{_three_digits(seconds / factor)} {unit}"
    return show_seconds(seconds)


def _three_digits(number: float) -> str:
    """Return `number` with three significant digits, from 100 on to the unit: no exponent for large ones."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
