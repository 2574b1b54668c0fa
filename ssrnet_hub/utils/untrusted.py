"""Read untrusted JSON and YAML files, and check the types and bounds of their values.

`read_json` and `read_yaml` return plain values of bounded size. A `Check` returns the value it is given or raises
ValueError, and `checked` adds where the error is:

    faces = record({"n": whole(1, 100), "scores": listing(number(0, 1), 1, 10)})
    checked("faces", faces, {"n": 5, "scores": [0.5, "a"]})  # faces.scores[1] is not a number from 0 to 1, but 'a'
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, Optional, Union

from ..errors import ConfigError

__all__ = [
    "MAX_FILE_SIZE",
    "Check",
    "anything",
    "check_plain",
    "checked",
    "choice",
    "flag",
    "listing",
    "mapping",
    "number",
    "one_or_list",
    "optional",
    "read_json",
    "read_yaml",
    "record",
    "text",
    "whole",
]

MAX_FILE_SIZE = 2_000_000
"""Maximum size of a JSON file, bytes; the config of weights calibrated with a hundred bins has half of it."""

_MAX_YAML_SIZE = 100_000
"""Maximum size of a YAML file, bytes; the parser is slow."""

_MAX_VALUES = 200_000
_MAX_DEPTH = 64
_MAX_WHOLE = 2**63 - 1

Check = Callable[[Any], Any]
"""Returns a valid value, possibly converted to another type; raises ValueError for an invalid one."""


def read_json(path: Union[str, os.PathLike]) -> Any:
    """Read a JSON file; see `check_plain` for the values it may contain.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is too large, is not JSON, or contains a value that is not plain.
    """
    try:
        value = json.loads(_read_text(path, MAX_FILE_SIZE))
    except RecursionError as e:
        raise ValueError("it is nested too deeply") from e
    return check_plain(value)


def read_yaml(path: Union[str, os.PathLike]) -> Any:
    """Read a YAML file without aliases; see `check_plain` for the values it may contain.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is too large, is not YAML, has aliases, or contains a value that is not plain.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Rejects aliases, with which a few lines can expand to gigabytes."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("it has aliases")
            return super().compose_node(parent, index)

    content = _read_text(path, _MAX_YAML_SIZE)
    try:
        value = yaml.load(content, Loader)
    except Exception as e:  # the parser's own errors, and any that its constructors raise for a tagged scalar
        raise ValueError(f"it is not YAML of plain values: {e!s:.300}") from e
    return check_plain(value)


def _read_text(path: Union[str, os.PathLike], most: int) -> str:
    with Path(path).open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content.decode("utf-8")


def check_plain(value: Any) -> Any:
    """Return a value if it consists of objects with text keys, lists, text, finite numbers, booleans, and nulls.

    Raises:
        ValueError: It contains anything else, a whole number of more than 63 bits, text that cannot be encoded, or too
            many values, or is nested too deeply.
    """
    waiting = [(value, 0)]
    count = 0
    while waiting:
        part, depth = waiting.pop()
        count += 1
        if count > _MAX_VALUES:
            raise ValueError(f"it has more than {_MAX_VALUES:,} values")
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
        if isinstance(part, dict):
            if not all(isinstance(key, str) for key in part):
                raise ValueError("it has a key that is not text")
            waiting += [(inner, depth + 1) for inner in (*part.keys(), *part.values())]
        elif isinstance(part, (list, tuple)):
            waiting += [(inner, depth + 1) for inner in part]
        elif isinstance(part, str):
            part.encode()
        elif isinstance(part, float):
            if not math.isfinite(part):
                raise ValueError(f"it has the number {part}")
        elif isinstance(part, int):
            if abs(part) > _MAX_WHOLE:
                raise ValueError("it has a whole number of more than 63 bits")
        elif part is not None:
            raise ValueError(f"it has a {type(part).__name__}")
    return value


def checked(what: str, check: Check, value: Any) -> Any:
    """Apply a check to a value, and return the result.

    Args:
        what: Name of the value in the error; empty if the names of its keys suffice.
        check: The check.
        value: The value to check.

    Raises:
        ConfigError: The value is invalid.
    """
    try:
        return check(value)
    except ValueError as e:
        raise ConfigError(f"{what}{e}.".lstrip(". ")) from e


def _shown(value: Any) -> str:
    """Format the beginning of a value, for an error."""
    try:
        return f"{value!r:.100}"
    except (ValueError, RecursionError):  # Python does not format numbers of thousands of digits
        return f"a {type(value).__name__} too long to show"


def anything(value: Any) -> Any:
    """Any value."""
    return value


def flag(value: Any) -> bool:
    """True or False."""
    return value if isinstance(value, bool) else _refuse("true or false", value)


def number(low: float, high: float) -> Check:
    """A number from ``low`` to ``high``, as a float."""

    def check(value: Any) -> float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
        return float(value) if good else _refuse(f"a number from {low:g} to {high:g}", value)

    return check


def whole(low: int, high: int) -> Check:
    """A whole number from ``low`` to ``high``."""

    def check(value: Any) -> int:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return value if good else _refuse(f"a whole number from {low:,} to {high:,}", value)

    return check


def text(most: int = 1000) -> Check:
    """Text of at most ``most`` characters."""

    def check(value: Any) -> str:
        good = isinstance(value, str) and len(value) <= most
        return value if good else _refuse(f"text of at most {most:,} characters", value)

    return check


def choice(*values: str) -> Check:
    """One of several words."""

    def check(value: Any) -> str:
        return value if isinstance(value, str) and value in values else _refuse(f"one of {', '.join(values)}", value)

    return check


def optional(check: Check) -> Check:
    """None, or a value that passes a check."""
    return lambda value: None if value is None else check(value)


def listing(check: Check, least: int, most: int) -> Check:
    """A list of ``least`` to ``most`` items that pass a check, as a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            count = f"{least:,}" if least == most else f"{least:,} to {most:,}"
            _refuse(f"a list of {count} items", value)
        return tuple(_inside(f"[{index}]", check, item) for index, item in enumerate(value))

    return check_all


def one_or_list(check: Check, least: int, most: int) -> Check:
    """A value that passes a check, or a list of ``least`` to ``most`` of them."""
    several = listing(check, least, most)
    return lambda value: several(value) if isinstance(value, (list, tuple)) else check(value)


def record(
    required: Mapping[str, Check], others: Optional[Mapping[str, Check]] = None, *, closed: bool = True
) -> Check:
    """An object with the required keys, as a dictionary.

    Args:
        required: Check for the value of each required key.
        others: Check for the value of each optional key.
        closed: Whether to reject other keys; if False, their values are returned unchanged.
    """
    checks = {**required, **(others or {})}

    def check_fields(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            _refuse("an object", value)
        if missing := sorted(required.keys() - value.keys()):
            raise ValueError(f" lacks {', '.join(missing)}")
        if closed and (unknown := sorted(map(_shown, value.keys() - checks.keys()))):
            raise ValueError(f" has unknown keys: {', '.join(unknown)[:200]}")
        return {key: _inside(f".{key}", checks.get(key, anything), inner) for key, inner in value.items()}

    return check_fields


mapping = record({}, closed=False)
"""An object with any keys."""


def _refuse(expected: str, value: Any) -> NoReturn:
    raise ValueError(f" is not {expected}, but {_shown(value)}")


def _inside(place: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except ValueError as e:
        raise ValueError(f"{place}{e}") from None
