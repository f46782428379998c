from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starlette_wasm.protocols import get_protocol
from starlette_wasm.protocols.errors import ResponseError
from starlette_wasm.protocols.jsonscan import (
    LOOP_TOKENS,
    MAX_DEPTH,
    MAX_TOKENS,
    Kind,
    LongAnswerError,
    byte_offset,
    read_plain,
    scan,
)

KINDS = {"s": Kind.STRING, "i": Kind.INTEGER, "b": Kind.BOOL, "h": Kind.HEADERS}
MIB = 1024 * 1024


def read(text: str | bytes) -> dict[str, object]:
    return scan(text if isinstance(text, bytes) else text.encode(), KINDS)[0]


def fault(text: str | bytes) -> tuple[str, int | None]:
    with pytest.raises(ResponseError) as caught:
        read(text)
    return caught.value.problem, caught.value.offset


@pytest.mark.parametrize("space", ["", " ", "\n", "\r\n\t "])
def test_white_space_is_fine_wherever_json_has_it(space):
    tokens = [
        "{",
        '"s"',
        ":",
        '"x"',
        ",",
        '"h"',
        ":",
        "{",
        '"a"',
        ":",
        '"b"',
        ",",
        '"c"',
        ":",
        "[",
        '"d"',
        ",",
    ]
    tokens += ['"e"', "]", "}", ",", '"z"', ":", "[", "1", ",", "{", "}", "]", ",", '"i"', ":", "-3", "}"]
    assert read(space.join(["", *tokens, ""])) == {"s": "x", "h": {"a": "b", "c": ["d", "e"]}, "i": -3}


def test_keys_nobody_asked_for_are_left_out():
    assert read('{"x":[{"s":1},null,-1.5e+3,"\\n"],"s":"","y":{},"":true}') == {"s": ""}


def test_an_empty_object_is_an_object():
    assert read(" {} ") == read("{ }") == {}


def test_escapes_are_read_in_keys_and_values():
    assert read(r'{"\u0073":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}') == {"s": '"\\/\b\f\n\r\té😀'}


@pytest.mark.parametrize(
    ("text", "problem", "offset"),
    [
        ("", "empty", 0),
        (" \n", "empty", 0),
        ("\ufeff{}", "byte order mark", 0),
        ("Hello", "expected a JSON object, not 'H'", 0),
        ("  []", "expected a JSON object, not '['", 2),
        ("{", "expected a key in double quotes, not the end", 1),
        ("{s:1}", "expected a key in double quotes, not 's'", 1),
        ('{"s"', "expected ':', not the end", 4),
        ('{"s" "x"}', "expected ':', not '\"'", 5),
        ('{"s":', "'s' must be a string", 5),
        ('{"x":', "expected a value, not the end", 5),
        ('{"s":"x"', "expected ',' or '}', not the end", 8),
        ('{"s":"x"]', "expected ',' or '}', not ']'", 8),
        ('{"x":[1}', "expected ',' or ']', not '}'", 7),
        ('{"s":"x",}', "expected a key in double quotes, not '}'", 9),
        ('{"x":[1,]}', "expected a value, not ']'", 8),
        ('{"x":{"a":1,}}', "expected a key in double quotes, not '}'", 12),
        ('{"x":{"a"}}', "expected ':', not '}'", 9),
        ('{"s":"x"}x', "something follows the JSON object", 9),
        ("{} {}", "something follows the JSON object", 3),
        ("{}\0", "something follows the JSON object", 2),
        ('{"s":"é","s":"x"}', "duplicate key 's'", 10),
        ('{"x":1,"x":1}', "duplicate key 'x'", 7),
        (r'{"s":"","\u0073":""}', "duplicate key 's'", 8),
        ('{"h":{"a":"é","a":""}}', "duplicate header 'a'", 15),
        (r'{"h":{"a":"","\u0061":""}}', "duplicate header 'a'", 13),
        ('{"x":"a\nb"}', "invalid control character", 7),
        ('{"s":"a\0b"}', "invalid control character", 7),
        ('{"s":"é\\x"}', "invalid \\escape", 8),
        ('{"s":"\\u00g0"}', "invalid \\uXXXX escape", 7),
        ('{"s":"abc', "unterminated string", 5),
        ('{"é":"abc', "unterminated string", 6),
        (r'{"s":"\ud800"}', "lone surrogate", 5),
        (r'{"s":"é\udc00\ud800"}', "lone surrogate", 5),
        ('{"x":NaN}', "expected a value, not 'N'", 5),
        ('{"x":Infinity}', "expected a value, not 'I'", 5),
        ('{"x":-Infinity}', "expected a value, not '-'", 5),
        ('{"i":NaN}', "'i' must be an integer", 5),
        ('{"i":-Infinity}', "'i' must be an integer", 5),
        ('{"x":01}', "expected ',' or '}', not '1'", 6),
        ('{"i":01}', "expected ',' or '}', not '1'", 6),
        ('{"x":1.}', "expected ',' or '}', not '.'", 6),
        ('{"x":.5}', "expected a value, not '.'", 5),
        ('{"x":+1}', "expected a value, not '+'", 5),
        ('{"x":truex}', "expected ',' or '}', not 'x'", 9),
        ('{"x":nul}', "expected a value, not 'n'", 5),
        ("{'s':1}", "expected a key in double quotes", 1),
        ('{"i":1e400}', "'i' must be an integer", 5),
        ('{"i":200.0}', "'i' must be an integer", 5),
        ('{"i":"200"}', "'i' must be an integer", 5),
        ('{"i":true}', "'i' must be an integer", 5),
        ('{"i":null}', "'i' must be an integer", 5),
        ('{"i":' + "9" * 19 + "}", "'i' is out of range", 5),
        ('{"b":1}', "'b' must be true or false", 5),
        ('{"s":["x"]}', "'s' must be a string", 5),
        ('{"h":[]}', "'h' must be an object of strings, or lists of strings", 5),
        ('{"h":{"a":1}}', "value of header 'a' must be a string, or a list of strings", 10),
        ('{"h":{"a":["b",1]}}', "value of header 'a' must be a string, or a list of strings", 15),
        ('{"h":{"a":["b",]}}', "value of header 'a' must be a string, or a list of strings", 15),
        ('{"h":{"a":"b",}}', "expected a key in double quotes, not '}'", 14),
        ('{"h":{"a":"b"]}', "expected ',' or '}', not ']'", 13),
    ],
)
def test_what_is_wrong_is_said_with_the_byte_it_is_at(text, problem, offset):
    said, at = fault(text)
    assert said.startswith(problem)
    assert at == offset


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b'{"s":"\xff"}', 6),
        (b'{"s":"\xed\xa0\x80"}', 6),
        (b'{"s":"\xc0\x80"}', 6),
        ('{"s":"x"}'.encode("utf-16"), 0),
        (b'{"s":"\xc3', 6),
    ],
)
def test_only_utf_8_is_read(data, offset):
    assert fault(data) == ("not UTF-8", offset)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-8-sig"])
def test_other_encodings_that_json_loads_would_guess_are_refused(codec):
    fault('{"s":"x"}'.encode(codec))


def test_numbers_of_any_size_may_be_in_what_is_ignored():
    assert read('{"x":1e400,"y":' + "9" * 100_000 + ',"s":""}') == {"s": ""}


def test_nesting_is_bounded_without_recursion():
    deepest = MAX_DEPTH - 1  # the object itself is a level
    assert read('{"x":' + "[" * deepest + "]" * deepest + "}") == {}
    assert fault('{"x":' + "[" * (deepest + 1) + "]" * (deepest + 1) + "}")[0] == "nested deeper than 64 levels"
    assert fault('{"x":' + '{"a":' * 100_000)[0] == "nested deeper than 64 levels"


def test_what_is_ignored_is_bounded():
    keys = MAX_TOKENS // 2
    assert read("{" + ",".join(f'"{i}":1' for i in range(keys)) + ',"s":""}') == {"s": ""}
    assert fault("{" + ",".join(f'"{i}":1' for i in range(keys + 1)) + "}")[0].startswith("more than 10000")
    assert fault('{"x":{' + ",".join(f'"{i}":1' for i in range(keys)) + "}}")[0].startswith("more than 10000")


def test_messages_stay_short_and_printable():
    problem, _ = fault('{"h":{"' + "\x7f\u2028\\u001b" * 1000 + '":1}}')
    assert len(problem) < 300
    assert problem.isascii()
    assert problem.isprintable()


@pytest.mark.parametrize(
    "data",
    [
        b'{"x":[' + b"[]," * (8 * MIB // 3),
        b'{"x":' + b"[" * 8 * MIB,
        b'{"x":[' + b"1 , " * (2 * MIB),
        b"[]," * (8 * MIB // 3),
        b" " * 8 * MIB,
        b'{"s"' + b" " * 8 * MIB,
        b'{"i":' + b"9" * 8 * MIB + b"}",
        b'{"s":"' + b"a" * 8 * MIB,
        b'{"s":"' + b"\\n" * 4 * MIB,
        b'{"h":{"a":[' + b'"",' * 3 * MIB,
        b'{"h":{' + b'"":"",' * MIB,
        b'{"x":' + b'{"":' * 2 * MIB,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_eight_hostile_mebibytes_fail_fast(data):
    start = time.thread_time()
    fault(data)
    assert time.thread_time() - start < 5


def test_eight_mebibytes_of_body_are_read():
    body = '{"é":"\\n"}' * (8 * MIB // 10)
    assert read(json.dumps({"s": body})) == {"s": body}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ashb") | st.text(), inner, max_size=4),
    max_leaves=12,
)
objects = st.fixed_dictionaries(
    {},
    optional={
        "s": st.text(st.characters()) | values,
        "i": st.integers() | values,
        "b": st.booleans() | values,
        "h": st.dictionaries(st.text(), st.text() | st.lists(st.text(), max_size=3), max_size=4) | values,
        "x": values,
        "y\\é": values,
    },
)


def oracle(text: str) -> dict[str, object]:
    """What scan() must return, by way of json.loads; ValueError where it must raise."""

    def refuse(constant):
        raise ValueError(constant)

    found = json.loads(text, parse_constant=refuse, object_pairs_hook=lambda items: ("object", items))
    if not (isinstance(found, tuple) and found[0] == "object"):
        raise ValueError("no object")
    if len({key for key, _ in found[1]}) < len(found[1]):
        raise ValueError("duplicate key")
    result = {}
    for key, value in found[1]:
        if value is None and key in "sbh":
            continue
        if key == "s":
            if not isinstance(value, str):
                raise ValueError(key)
            value.encode()
        elif key == "i":
            if type(value) is not int or len(str(value)) > 18:
                raise ValueError(key)
        elif key == "b":
            if not isinstance(value, bool):
                raise ValueError(key)
        elif key == "h":
            if not isinstance(value, tuple):
                raise ValueError(key)
            headers = dict(value[1])
            if len(headers) < len(value[1]):
                raise ValueError("duplicate header")
            for each in headers.values():
                for item in each if isinstance(each, list) else [each]:
                    if not isinstance(item, str):
                        raise ValueError(key)
            value = headers
        else:
            continue
        result[key] = value
    return result


def agree(text: str) -> None:
    try:
        expected = oracle(text)
    except ValueError:
        fault(text)
    else:
        assert read(text) == expected


@given(
    objects,
    st.booleans(),
    st.sampled_from([None, 1]),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]),
)
def test_json_is_read_as_json_loads_reads_it(value, ascii_only, indent, separators):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, separators=separators)
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    agree(text)


@given(objects, st.data())
def test_damaged_json_is_refused_where_json_loads_refuses_it(value, data):
    text = json.dumps(value)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 3)))
    agree(text[:start] + data.draw(st.text('{}[]",:\\ut0-.e \n\x01é', max_size=3)) + text[end:])


@given(st.text('{}[]",:\\ud80asihbx1-.eE \n'))
@example('{"h":{"a":"b"} ,"s":"x"}')
@example('{"h":{"a":"b" } }')
@example('{"h":{}}')
@example('{"h":{"a":[]}}')
def test_text_like_json_is_judged_as_json_loads_judges_it(text):
    agree(text)


@given(st.binary())
def test_random_bytes_raise_nothing_but_a_response_error(data):
    fault_at = 0
    try:
        read(data)
    except ResponseError as error:
        fault_at = error.offset
    assert 0 <= fault_at <= len(data)


def test_a_place_becomes_a_byte():
    data = '{"x":"é","s":"y"}'.encode()
    _, places = scan(data, KINDS)
    assert byte_offset(data, places["s"]) == data.index(b'"y"')
    assert byte_offset(data, None) is None


_WORDS = st.sampled_from(["s", "i", "b", "h", "x", "a", "\u00e9", "\\", '"', "\n", "\ud800", ""])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_WORDS, _VALUES, max_size=5), st.booleans())
@example({"s": "\ud800"}, True)
def test_the_quick_reader_gives_what_the_scanner_gives_or_nothing(document, ascii_only):
    data = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    fast_path = read_plain(data, KINDS)
    assert fast_path is None or fast_path == scan(data, KINDS)[0]


@given(st.text(alphabet='{}[]:,"\\sihbu01e-. \t\n', max_size=40))
@example('{"s":"x","s":"y"}')
@example('{"h":{"a":"1","a":"2"}}')
@example('{"i":NaN}')
@example('{"i":true}')
@example('{"i":1000000000000000000}')
@example('{"i":-100000000000000000}')
def test_the_quick_reader_takes_nothing_that_the_scanner_refuses(text):
    fast_path = read_plain(text.encode(), KINDS)
    assert fast_path is None or fast_path == scan(text.encode(), KINDS)[0]


LONG_ANSWERS = {
    "numbers": b"[" + b"1," * 9_000 + b"1]",
    "spaced": b"[" + b"1 \t\n ," * 9_000 + b"1]",
    "arrays": b"[" + b"[]," * 9_000 + b"1]",
    "objects": b"[" + b'{"":1},' * 4_500 + b"1]",
    "too many": b"[" + b"1," * 100_000 + b"1]",
    "deep": b'{"":' * 60_000,
    "strings": b"[" + b'"\\u0041",' * 9_000 + b"1]",
}


@pytest.mark.parametrize("kind", LONG_ANSWERS)
@pytest.mark.parametrize("protocol", ["edge", "wws"])
def test_a_long_answer_is_given_up_on_the_loop(protocol, kind):
    """What is left of it is read in a thread."""
    key = b"status_code" if protocol == "edge" else b"status"
    data = b'{"' + key + b'":200,"other":' + LONG_ANSWERS[kind] + b"}"
    times = []
    for _ in range(5):
        begin = time.thread_time()
        with pytest.raises((LongAnswerError, ResponseError)):
            get_protocol(protocol).decode(data, LOOP_TOKENS)
        times.append(time.thread_time() - begin)
    assert min(times) < 0.01


@pytest.mark.parametrize("piece", [b"a:b\n", b"\r", b":\n", b" \n", b"a:b\n c\n", b"\n"])
def test_hostile_cgi_heads_are_read_in_bounded_time(piece):
    data = b"Status: 200\n" + piece * ((256 << 10) // len(piece))
    times = []
    for _ in range(5):
        begin = time.thread_time()
        with suppress(ResponseError):
            get_protocol("cgi").decode(data)
        times.append(time.thread_time() - begin)
    assert min(times) < 0.01


def test_a_bound_of_tokens_changes_no_answer():
    data = b'{"status_code":201,"other":[' + b"1," * 5_000 + b"1]}"
    assert get_protocol("edge").decode(data).status_code == 201
    with pytest.raises(LongAnswerError):
        get_protocol("edge").decode(data, LOOP_TOKENS)
    few = b'{"status_code":201,"other":[1,2,3]}'
    assert get_protocol("edge").decode(few, LOOP_TOKENS).status_code == 201
