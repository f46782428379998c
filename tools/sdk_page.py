"""Writes docs/sdk-examples.md from the examples of the SDKs: ``python tools/sdk_page.py``."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "sdk-examples.md"
SOURCES = {
    "C": ("c", "sdk/c/examples/web.c"),
    "Rust": ("rust", "sdk/rust/examples/web.rs"),
    "JavaScript": ("js", "sdk/javascript/examples/web.js"),
    "Python": ("py", "sdk/python/examples/web.py"),
    "Go": ("go", "sdk/go/examples/web.go"),
    "Zig": ("zig", "sdk/zig/examples/web.zig"),
    "AssemblyScript": ("ts", "sdk/assemblyscript/examples/web.ts"),
}
"""The name of each language in Markdown, and its file."""

EXAMPLES = {
    "hello": ("A greeting", "`GET /hello?name=Ada` answers `Hello, Ada!`."),
    "json": ("JSON", '`POST /sum` with `{"numbers": [1, 2]}` answers `{"sum": 3}`.'),
    "query": ("Query", "`GET /tags?tag=a&tag=b` has both values of the key."),
    "cookies": ("Cookies", "Counts visits in a cookie."),
    "form": ("Forms", "Reads `application/x-www-form-urlencoded`."),
    "multipart": ("Multipart", "Reads an uploaded file."),
    "redirect": ("Redirects", "Leads on to another path, with the same method."),
    "problem": ("Problems", "Answers a mistake with `application/problem+json`."),
    "fetch": ("Fetch and log", "Asks a host that the policy allows, and logs with levels."),
    "store": ("Store, queue and span", "Counts under a key, publishes a message, and records a span."),
}
HEAD = """# Ten examples in seven languages

What a function does most, in each of the [SDKs](sdks.md). The text is that of the files that
`tests/sdk/test_examples.py` builds outside of the repository and sends the same requests to; whole files, with what
chooses one by the path, are in `sdk/*/examples`.
"""
_MARK = r"(?:/\*|//|#)"


def example(text: str, name: str) -> str:
    """Return what is between the mark of an example and the next mark."""
    found = re.search(rf"^{_MARK} example: {name}\b.*\n((?:.*\n)*?)(?={_MARK} example: )", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"there is no example {name}")
    return textwrap.dedent(found[1]).strip("\n")


def rendered() -> str:
    texts = {language: (ROOT / path).read_text(encoding="utf-8") for language, (_, path) in SOURCES.items()}
    parts = [HEAD]
    for name, (title, what) in EXAMPLES.items():
        parts.append(f"\n## {title}\n\n{what}\n")
        parts += [
            f"\n**{language}**\n\n```{SOURCES[language][0]}\n{example(text, name)}\n```\n"
            for language, text in texts.items()
        ]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(rendered(), encoding="utf-8")
