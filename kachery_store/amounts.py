"""Sizes and spans of time as people write them: `100GB`, `1.5TiB`, `90d`, `12h`."""

from __future__ import annotations

import math
import re

from .errors import BadAmount

_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*")
_BYTES = {"": 1, "b": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("kmgtp", start=1)
    for ending, base in (("", 1000), ("b", 1000), ("ib", 1024), ("i", 1024))
}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


def parse_size(text: str | float) -> int:
    """Bytes; text as `100GB` (powers of 1000), `1.5TiB` (of 1024), `5000`. BadAmount."""
    return int(_amount(text, _BYTES, "a size; write it like 100GB, 1.5TiB or 5000 (bytes)"))


def parse_span(text: str | float) -> float:
    """Seconds; text as `90d`, `12h`, `30min`, `45s`, `2w`, `1y`. BadAmount."""
    if isinstance(text, str) and text.strip() == "0":  # of whatever unit
        return 0.0
    return _amount(text, _SECONDS, "a span of time; write it like 90d, 12h, 30min, 45s, 2w or 1y")


def _amount(given: str | float, units: dict[str, int], what: str) -> float:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        number = float(given)
    else:
        match = _NUMBER.fullmatch(str(given))
        if match is None or match[2].lower() not in units:
            raise BadAmount(f"{given!r} is not {what}")
        number = float(match[1]) * units[match[2].lower()]
    if not (math.isfinite(number) and number >= 0):
        raise BadAmount(f"{given!r} is not {what}")
    return number


def size_text(size: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def span_text(seconds: float) -> str:
    """A span of time for people, in its largest unit."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.3g} seconds"
