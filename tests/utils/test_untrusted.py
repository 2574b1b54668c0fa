"""JSON, YAML and values from others, with types and bounds."""

import tracemalloc

import numpy as np
import pytest

from ssrnet_hub.errors import ConfigError
from ssrnet_hub.utils.untrusted import (
    check_plain,
    checked,
    choice,
    flag,
    listing,
    mapping,
    number,
    one_or_list,
    optional,
    read_json,
    read_yaml,
    record,
    text,
    whole,
)

PLAIN = {"a": [1, -2.5, True, None, "é", {"b": []}], "c": 2**63 - 1}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    return write


def test_json_and_yaml_of_plain_values(write):
    path = write('{"a": [1, -2.5, true, null, "é", {"b": []}], "c": 9223372036854775807}')
    assert read_json(path) == read_yaml(path) == PLAIN


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        b"\xff",
        b"\xff\xfe{\x00}\x00",
        "[NaN]",
        "[-Infinity]",
        "[1e999]",
        f"[{10**400}]",
        f"[{2**63}]",
        "1" * 10_000,
        "[" * 66 + "]" * 66,
        "[" * 100_000,
        '{"a":' * 100_000,
        '["\\ud800"]',
        '{"\\ud800": 1}',
        "[" + "0," * 200_000 + "0]",
        " " * 2_000_001,
    ],
    ids=lambda content: ascii(content[:12]),
)
def test_json_that_is_refused(write, content):
    with pytest.raises(ValueError, match=r".{5,500}"):
        read_json(write(content))


@pytest.mark.parametrize(
    "content",
    [
        "a: .inf",
        "a: .nan",
        "a: 1.0e+999",
        "a: 2024-01-01",
        "a: !!binary aGk=",
        "a: !!set {x}",
        "a: !!bool x",
        "a: !!int x",
        "a: !!float x",
        "a: !!timestamp x",
        "!!python/object/apply:os.getcwd []",
        "? [a]\n: 1",
        "1: a",
        "null: a",
        "- &a x\n- *a",
        "a: &a {b: 1}\nc:\n  <<: *a",
        "[" * 50_000,
        "- " * 2_000,
        "a: [" * 2_000,
        "a: 1:" + "59:" * 1_000 + "59",
        "a: " + "9" * 5_000,
        "a: 0x" + "f" * 90_000,
        "# " + "x" * 100_000,
        "a: \x00",
        b"\xff",
    ],
    ids=lambda content: ascii(content[:20]),
)
def test_yaml_that_is_refused(write, content):
    with pytest.raises(ValueError, match=r"(?s).{5,800}"):
        read_yaml(write(content))


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_a_file_that_cannot_be_read(tmp_path, read):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(OSError, match=r".+"):
            read(path)


def test_no_more_of_a_file_is_read_than_it_may_have(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(10**10)
    tracemalloc.start()
    for read in (read_json, read_yaml):
        with pytest.raises(ValueError, match="bytes"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def _kind(value):
    # the same in every process, which an address is not
    return type(value).__name__


@pytest.mark.parametrize("value", [{1}, b"a", 1j, object(), {1: 2}, [np.int64(1)], {("a",): 1}], ids=_kind)
def test_what_is_not_plain(value):
    with pytest.raises(ValueError, match="it has a"):
        check_plain(value)


def test_a_value_that_holds_itself():
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="nested"):
        check_plain(value)


GOOD = [
    (number(0, 10), 0, 0.0),
    (number(0, 10), 2.5, 2.5),
    (whole(-3, 3), -3, -3),
    (text(3), "abc", "abc"),
    (flag, False, False),
    (choice("a", "b"), "b", "b"),
    (optional(flag), None, None),
    (listing(whole(0, 9), 1, 2), [1, 2], (1, 2)),
    (one_or_list(whole(0, 9), 2, 2), 5, 5),
    (one_or_list(whole(0, 9), 2, 2), [5, 6], (5, 6)),
    (mapping, {"a": object}, {"a": object}),
    (record({"a": flag}), {"a": True}, {"a": True}),
    (record({"a": flag}, {"b": flag}, closed=False), {"a": True, "c": 1}, {"a": True, "c": 1}),
]


@pytest.mark.parametrize(("check", "value", "expected"), GOOD)
def test_values_that_are_taken(check, value, expected):
    answer = checked("it", check, value)
    assert answer == expected and type(answer) is type(expected)


ODD = [
    None,
    True,
    "1",
    "",
    -1,
    11,
    10**400,
    -(10**5000),
    float("inf"),
    float("nan"),
    [],
    [[1]],
    {},
    {"a": 1},
    b"a",
    {1},
    object(),
    np.float64("nan"),
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_numbers_are_numbers(value):
    for check in (number(0, 10), whole(0, 10)):
        with pytest.raises(ConfigError, match=r"^it is not a (whole )?number from 0 to 10, but ") as e:
            checked("it", check, value)
        assert len(str(e.value)) < 200


@pytest.mark.parametrize(
    ("check", "value", "said"),
    [
        (record({"a": flag}), [], "it is not an object, but []."),
        (record({"a": flag}), {}, "it lacks a."),
        (record({"a": flag}), {"a": True, "b": 1, 2: 3}, "it has unknown keys: 'b', 2."),
        (record({"a": flag}), {"a": 1}, "it.a is not true or false, but 1."),
        (record({"a": listing(record({"b": flag}), 0, 9)}), {"a": [{"b": True}, {"b": 1}]}, "it.a[1].b is not true or"),
        (listing(flag, 2, 2), [True], "it is not a list of 2 items, but [True]."),
        (listing(flag, 0, 2), "ab", "it is not a list of 0 to 2 items, but 'ab'."),
        (text(3), "abcd", "it is not text of at most 3 characters, but 'abcd'."),
        (choice("a", "b"), ["a"], "it is not one of a, b, but ['a']."),
        (one_or_list(flag, 1, 2), 5, "it is not true or false, but 5."),
        (mapping, "a", "it is not an object, but 'a'."),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_the_error_says_where(check, value, said):
    with pytest.raises(ConfigError) as e:
        checked("it", check, value)
    assert str(e.value).startswith(said)
    with pytest.raises(ConfigError) as e:
        checked("", check, value)
    assert str(e.value)[0] not in " ."
