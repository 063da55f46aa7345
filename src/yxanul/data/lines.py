"""A line of JSON that somebody else wrote, or the reason why it is none."""

from __future__ import annotations

import codecs
import json

from yxanul.errors import CorruptDataError


def parse_line(line: bytes, place: str) -> object:
    """Return the value in one line; `place` (file and line) begins the CorruptDataError."""
    try:
        # Windows writes a mark before the first line; of joined files it may stand before others.
        value: object = json.loads(line.removeprefix(codecs.BOM_UTF8).decode("utf-8"))
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 (byte {error.start} of the line)"
        raise _unusable(place, reason) from error
    except json.JSONDecodeError as error:
        reason = f"is not valid JSON ({error.msg} at character {error.pos + 1})"
        raise _unusable(place, reason) from error
    except RecursionError as error:
        raise _unusable(place, "is not usable JSON (nested too deeply)") from error
    except ValueError as error:  # Python refuses to read integers of over 4,300 digits
        raise _unusable(place, "is not usable JSON (a number of too many digits)") from error
    return value


def _unusable(place: str, reason: str) -> CorruptDataError:
    return CorruptDataError(f"{place} {reason}: correct or remove the line.")
