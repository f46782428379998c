from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm.capabilities.http import Url, UrlError
from starlette_wasm.config.host_patterns import HostPattern


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "target", "authority"),
    [
        ("http://example.com", "http", "example.com", 80, "/", "example.com"),
        ("HTTPS://EXAMPLE.com/", "https", "example.com", 443, "/", "example.com"),
        ("https://example.com:443/a", "https", "example.com", 443, "/a", "example.com"),
        ("https://example.com:8443?q=%20#x", "https", "example.com", 8443, "/?q=%20", "example.com:8443"),
        ("http://xn--bcher-kva.example/a?b=c&d", "http", "xn--bcher-kva.example", 80, "/a?b=c&d", None),
        ("http://a_b.example/", "http", "a_b.example", 80, "/", None),
        ("http://192.0.2.1/", "http", "192.0.2.1", 80, "/", None),
        ("http://Example.com./x", "http", "example.com", 80, "/x", "example.com"),
        ("http://192.0.2.1.:81/", "http", "192.0.2.1", 81, "/", "192.0.2.1:81"),
        ("http://[2001:DB8::1]:8080/x", "http", "2001:db8::1", 8080, "/x", "[2001:db8::1]:8080"),
        ("http://localhost/../a//b;c=d", "http", "localhost", 80, "/../a//b;c=d", None),
        ("http://example.com/a@b:c%zz", "http", "example.com", 80, "/a@b:c%zz", None),
        ("http://example.com#@evil.net", "http", "example.com", 80, "/", None),
        ("http://example.com?@evil.net/", "http", "example.com", 80, "/?@evil.net/", None),
    ],
)
def test_a_url_is_taken_apart(text: str, scheme: str, host: str, port: int, target: str, authority: str | None) -> None:
    url = Url.parse(text)
    assert url == Url(scheme, host, port, target)
    assert url.authority == (authority or host)
    assert Url.parse(str(url)) == url


# From the host cases of the WHATWG's url tests (web-platform-tests, url/resources), and of known SSRF tricks.
REFUSED = [
    "",
    "example.com",
    "//example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "http:example.com",
    "http:/example.com",
    "http:///example.com",
    "http://",
    "http://?q",
    "http:\\\\example.com",
    "http://example.com\\@evil.net/",
    "http://example.com/a\\b",
    "http://user@example.com/",
    "http://user:secret@example.com/",
    "http://@example.com/",
    "http://example.com@evil.net/",
    "http://example.com:80@evil.net/",
    "http://example.com:@evil.net/",
    " http://example.com/",
    "http://example.com/ ",
    "http://exa mple.com/",
    "http://example.com/a b",
    "ht\ttp://example.com/",
    "http://exam\tple.com/",
    "http://exam\nple.com/",
    "http://example.com/\r\nx: y",
    "http://example.com/\0",
    "http://example.com\0.evil.net/",
    "http://example.com\x7f/",
    "http://exa%6dple.com/",
    "http://%31%32%37.0.0.1/",
    "http://example.com%00/",
    "http://example.com%2f@evil.net/",
    "http://example.com%5c@evil.net/",
    "http://example.com../",
    "http://127.0.0.1../",
    "http://.example.com/",
    "http://example..com/",
    "http://./",
    "http://../",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0X7F.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0x7f.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.0.0.0x1/",
    "http://127.0.0.01/",
    "http://1.2.3.4.5/",
    "http://1.2.3.256/",
    "http://256/",
    "http://4294967296/",
    "http://99999999999/",
    "http://0x/",
    "http://a.0x/",
    "http://foo.0/",
    "http://foo.2.3/",
    "http://foo.0x4/",
    "http://foo.09/",
    "http://127.0.0.1e1.1/",
    "http://\u0661\u0662\u0667.0.0.1/",
    "http://\uff11\uff12\uff17.0.0.1/",
    "http://\u2460\u2461\u2466.0.0.1/",
    "http://127\u30020.0.1/",
    "http://ex\u00e4mple.com/",
    "http://\uff45xample.com/",
    "http://example\u3002com/",
    "http://exam\u00adple.com/",
    "http://exam\u200bple.com/",
    "http://\u212aelvin.example/",
    "http://fa\u00df.example/",
    "http://[::1/",
    "http://::1/",
    "http://[::1]x/",
    "http://x[::1]/",
    "http://[::1]:/",
    "http://[fe80::1%eth0]/",
    "http://[fe80::1%25eth0]/",
    "http://[::127.0.0.1",
    "http://[127.0.0.1]/",
    "http://[1::2::3]/",
    "http://[0:1:2:3:4:5:6:7:8]/",
    "http://[::1.2.3]/",
    "http://[::g]/",
    "http://[v1.x]/",
    "http://[]/",
    "http://[[::1]]/",
    "http://example.com:/",
    "http://example.com:0/",
    "http://example.com:080/",
    "http://example.com:65536/",
    "http://example.com:99999/",
    "http://example.com:-80/",
    "http://example.com:+80/",
    "http://example.com:8a/",
    "http://example.com:80:80/",
    "http://example.com:\u0668\u0660/",
    "http://a<b/",
    "http://a>b/",
    "http://a^b/",
    "http://a|b/",
    "http://a`b/",
    "http://a{b}/",
    "http://a!b/",
    "http://a$b/",
    "http://a&b/",
    "http://a'b/",
    "http://(a)/",
    "http://a*b/",
    "http://*/",
    "http://a+b/",
    "http://a,b/",
    "http://a;b/",
    "http://a=b/",
    "http://a~b/",
    "http://-a.example/",
    "http://a-.example/",
    f"http://{'a' * 64}.example/",
    f"http://{'.'.join(['a' * 60] * 5)}/",
    f"http://example.com/{'a' * 8192}",
    "\ud800",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_parsers_may_disagree_about_is_refused(text: str) -> None:
    with pytest.raises(UrlError) as caught:
        Url.parse(text)
    assert "evil" not in str(caught.value)


hostile = st.text(alphabet="htps:/\\@.%[]#?0x17fea-_ \t\r\n\0é。:ex", max_size=30)


@given(st.builds("http://{}".format, hostile) | hostile | st.text(max_size=40))
def test_any_text_is_a_url_or_an_error(text: str) -> None:
    try:
        url = Url.parse(text)
    except UrlError:
        return
    assert Url.parse(str(url)) == url
    # urllib takes what is left for the same.
    other = urlsplit(text)
    assert (other.scheme, other.hostname) == (url.scheme, urlsplit(str(url)).hostname) or ":" in url.host
    assert re.fullmatch(r"[!-~]+", f"{url.authority}{url.target}")
    # The grant's grammar, written apart from this one, knows every host that comes through.
    assert HostPattern.parse("*").matches(url.scheme, url.host, url.port)


@pytest.mark.parametrize("base", ["http://a.example/b/c/d;p?q", "http://a.example", "http://a.example:81/x/"])
@pytest.mark.parametrize(
    "location",
    # RFC 3986, sections 5.4.1 and 5.4.2
    [
        "g",
        "./g",
        "g/",
        "/g",
        "//g.example",
        "?y",
        "g?y",
        ";x",
        "g;x",
        ".",
        "./",
        "..",
        "../",
        "../g",
        "../..",
        "../../",
        "../../g",
        "../../../g",
        "/./g",
        "/../g",
        "g.",
        ".g",
        "..g",
        "./../g",
        "./g/.",
        "g/./h",
        "g;x=1/../y",
        "g?y/../x",
        "http://b.example/x",
        "HTTPS://b.example",
        "#s",
        "g#s",
        "/a:b",
        "?a:b",
    ],
)
def test_a_redirect_is_resolved_as_the_standard_says(base: str, location: str) -> None:
    start = Url.parse(base)
    assert start.join(location) == Url.parse(urljoin(str(start), location))


@pytest.mark.parametrize(
    "location",
    [
        "ftp://b/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "http:/b/",
        "http:b",
        "mailto:a@b",
        "/\\b/",
        "\\\\b\\",
        "//b@c/",
        "//é/",
        "///b",
        "/a b",
        "http://127.1/",
        "//[::1",
        "data:,x",
        "/\x01",
        "\\/../",
        "/a\\b/../c",
        "a b/../c",
    ],
)
def test_a_redirect_to_what_is_no_url_is_refused(location: str) -> None:
    with pytest.raises(UrlError):
        Url.parse("http://a.example/").join(location)


def test_raw_bytes_in_a_redirect_are_encoded_as_browsers_do() -> None:
    location = "/caf\u00e9".encode().decode("latin-1")
    assert Url.parse("http://a.example/").join(location).target == "/caf%C3%A9"


@given(hostile)
def test_any_redirect_is_a_url_or_an_error(location: str) -> None:
    try:
        url = Url.parse("http://a.example/b").join(location)
    except UrlError:
        return
    assert Url.parse(str(url)) == url
