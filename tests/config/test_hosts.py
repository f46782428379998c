from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm.config.host_patterns import HostPattern, HostSyntaxError


@pytest.mark.parametrize(
    ("pattern", "scheme", "host", "port", "expected"),
    [
        ("api.example.com", "https", "api.example.com", 443, True),
        ("api.example.com", "http", "api.example.com", 80, True),
        ("api.example.com", "https", "API.Example.com", 443, True),
        ("API.example.com", "https", "api.example.com", 443, True),
        ("api.example.com", "https", "api.example.com", 80, False),
        ("api.example.com", "http", "api.example.com", 443, False),
        ("api.example.com", "https", "api.example.com", 8443, False),
        ("api.example.com", "https", "example.com", 443, False),
        ("api.example.com", "https", "api.example.com.evil.net", 443, False),
        ("api.example.com", "https", "api.example.com.", 443, True),
        ("api.example.com", "https", "api.example.com..", 443, False),
        ("api.example.com.", "https", "api.example.com", 443, True),
        ("api.example.com.:8443", "https", "api.example.com", 8443, True),
        ("*.example.com.", "https", "api.example.com.", 443, True),
        ("127.0.0.1", "http", "127.0.0.1.", 80, True),
        ("api.example.com", "ftp", "api.example.com", 80, False),
        ("*.example.com", "https", "api.example.com", 443, True),
        ("*.example.com", "https", "a.b.example.com", 443, True),
        ("*.example.com", "https", "example.com", 443, False),
        ("*.example.com", "https", "evilexample.com", 443, False),
        ("*.example.com", "https", "api.example.com", 8443, False),
        ("*.example.com:8443", "https", "api.example.com", 8443, True),
        ("https://api.example.com", "https", "api.example.com", 443, True),
        ("https://api.example.com", "http", "api.example.com", 80, False),
        ("https://api.example.com", "http", "api.example.com", 443, False),
        ("http://api.example.com:8080", "http", "api.example.com", 8080, True),
        ("http://api.example.com:8080", "https", "api.example.com", 8080, False),
        ("http://api.example.com:8080", "http", "api.example.com", 80, False),
        ("HTTPS://api.example.com", "https", "api.example.com", 443, True),
        ("api.example.com:8080", "http", "api.example.com", 8080, True),
        ("api.example.com:8080", "https", "api.example.com", 8080, True),
        ("api.example.com:8080", "http", "api.example.com", 80, False),
        ("localhost", "http", "localhost", 80, True),
        ("192.0.2.1", "http", "192.0.2.1", 80, True),
        ("192.0.2.1", "http", "192.0.2.2", 80, False),
        ("192.0.2.1", "http", "3221225985", 80, False),
        ("192.0.2.1", "http", "192.0.513", 80, False),
        ("192.0.2.1", "http", "0xc0.0.2.1", 80, False),
        ("192.0.2.1:8080", "http", "192.0.2.1", 8080, True),
        ("2001:db8::1", "https", "2001:db8::1", 443, True),
        ("2001:db8::1", "https", "[2001:DB8:0::1]", 443, True),
        ("[2001:db8::1]", "https", "2001:db8::1", 443, True),
        ("[2001:db8::1]:8443", "https", "[2001:db8::1]", 8443, True),
        ("[2001:db8::1]:8443", "https", "[2001:db8::1]", 443, False),
        ("192.0.2.1", "http", "::ffff:192.0.2.1", 80, False),
        ("10.0.0.0/8", "http", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "http", "11.1.2.3", 80, False),
        ("10.0.0.0/8", "http", "10.1.2.3", 8080, False),
        ("10.0.0.0/8:8080", "http", "10.1.2.3", 8080, True),
        ("10.0.0.0/8", "http", "ten.example.com", 80, False),
        ("2001:db8::/32", "http", "2001:db8:7::1", 80, True),
        ("[2001:db8::/32]:8080", "http", "[2001:db8:7::1]", 8080, True),
        ("2001:db8::/32", "http", "10.1.2.3", 80, False),
        ("*", "http", "anything.example", 80, True),
        ("*", "https", "anything.example", 8443, True),
        ("*", "https", "[::1]", 443, True),
        ("*", "gopher", "anything.example", 70, False),
        ("*", "https", "2130706433", 443, False),
        ("*", "https", "a b", 443, False),
        ("*", "https", "", 443, False),
        ("*", "https", "::1%eth0", 443, False),
        ("*:8443", "https", "anything.example", 8443, True),
        ("*:8443", "https", "anything.example", 443, False),
        ("https://*", "https", "anything.example", 443, True),
        ("https://*", "http", "anything.example", 80, False),
    ],
)
def test_a_pattern_matches_exactly_what_it_says(
    pattern: str, scheme: str, host: str, port: int, expected: bool
) -> None:
    assert HostPattern.parse(pattern).matches(scheme, host, port) is expected


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("", "is empty", "api.example.com"),
        ("bücher.example", "is not ASCII", "xn--"),
        ("a b", "white space", "take it out"),
        ("a\tb", "white space or a control", "take it out"),
        ("a\0b", "control character", "take it out"),
        ("user@example.com", "user information", "host alone"),
        ("https://user:secret@example.com", "user information", "host alone"),
        ("example.com\\@evil.net", "user information", "host alone"),
        ("example.com\\evil", "a backslash", "host alone"),
        ("exa%6dple.com", "a percent sign", "host alone"),
        ("[fe80::1%25eth0]:80", "a percent sign", "host alone"),
        ("example.com?x", "a query", "host alone"),
        ("example.com#x", "a fragment", "host alone"),
        ("https://example.com/", "has a path", "https://host:port"),
        ("example.com/v1", "has a path", "example.com"),
        ("example.com:80/v1", "has a path", "host and port"),
        ("ftp://example.com", "scheme ftp", "http or https"),
        ("example.com:", "the port ''", "1 to 65535"),
        ("example.com:0", "the port '0'", "1 to 65535"),
        ("example.com:080", "the port '080'", "1 to 65535"),
        ("example.com:65536", "the port '65536'", "1 to 65535"),
        ("example.com:http", "the port 'http'", "1 to 65535"),
        ("api.*.com", "wildcard in the middle", "*.example.com"),
        ("*example.com", "wildcard in the middle", "*.example.com"),
        ("*.*.com", "wildcard in the middle", "*.example.com"),
        ("*.10.0.0.1", "wildcard before an IP", "10.0.0.0/8"),
        ("*.", "not a valid host name", "labels"),
        ("example..com", "not a valid host name", "labels"),
        ("example.com..", "not a valid host name", "labels"),
        (".", "not a valid host name", "labels"),
        ("-example.com", "not a valid host name", "labels"),
        (f"{'a' * 64}.com", "not a valid host name", "labels"),
        (".".join(["a" * 60] * 5), "not a valid host name", "labels"),
        ("2130706433", "ends in a number", "four decimal"),
        ("0x7f000001", "ends in a number", "four decimal"),
        ("127.1", "ends in a number", "four decimal"),
        ("0177.0.0.1", "ends in a number", "four decimal"),
        ("1.2.3.256", "ends in a number", "four decimal"),
        ("example.123", "ends in a number", "four decimal"),
        ("example.0x", "ends in a number", "four decimal"),
        ("[::1", "brackets", "[2001:db8::1]:443"),
        ("[::1]x", "brackets", "[2001:db8::1]:443"),
        ("[127.0.0.1]", "brackets", "[2001:db8::1]:443"),
        ("2001:db8::g", "not a valid IPv6 address", "[2001:db8::1]"),
        ("a:80:90", "not a valid IPv6 address", "host:port"),
        ("10.0.0.1/8", "bits are set", "10.0.0.0/8"),
        ("10.0.0.0/33", "is not a valid network", "prefix length"),
        ("10.0.0.0/255.0.0.0", "is not a valid network", "prefix length"),
    ],
)
def test_what_is_no_pattern_is_refused_with_a_hint(text: str, problem: str, hint: str) -> None:
    with pytest.raises(HostSyntaxError) as caught:
        HostPattern.parse(text)
    assert problem in caught.value.problem
    assert hint in caught.value.hint


@given(st.text(alphabet="*.:/[]@%a1x0-_\\ é", max_size=24) | st.text(max_size=24))
def test_any_text_is_a_pattern_or_a_syntax_error(text: str) -> None:
    try:
        pattern = HostPattern.parse(text)
    except HostSyntaxError:
        return
    pattern.matches("https", "api.example.com", 443)


@given(st.text(max_size=24))
def test_matching_any_host_raises_nothing(host: str) -> None:
    for text in ("*", "*.example.com", "10.0.0.0/8", "api.example.com", "::1"):
        HostPattern.parse(text).matches("https", host, 443)
