from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from apps import add_function

from starlette_wasm.exceptions import ConfigError, FunctionNotFound, ModuleLoadError
from starlette_wasm.functions.catalog import Catalog


@pytest.fixture
def functions(tmp_path):
    """``functions("name/v1", ...)``: a directory with those versions, each with an empty module."""

    def functions(*versions: str):
        for version in versions:
            folder = tmp_path / version
            folder.mkdir(parents=True)
            (folder / f"{folder.parent.name}.wasm").write_bytes(b"")
        return tmp_path

    return functions


def test_every_version_of_every_function_is_found(functions):
    catalog = Catalog(functions("b/v1", "a/v2", "a/v10", "a.b-c_D/v0"))
    assert catalog.names == ["a", "a.b-c_D", "b"]
    assert len(catalog) == len(list(catalog)) == 4
    assert {str(source) for source in catalog} == {"a v2", "a v10", "b v1", "a.b-c_D v0"}
    source = catalog.get("b")
    assert (source.name, source.version, source.file.name) == ("b", "1", "b.wasm")
    assert source.manifest.protocol == "edge"


def test_versions_are_ordered_number_by_number_and_the_highest_is_the_default(functions):
    catalog = Catalog(functions("f/v1.9", "f/v1.10", "f/v2-rc.1", "f/v2", "f/v0.99"))
    assert catalog.versions("f") == ["0.99", "1.9", "1.10", "2-rc.1", "2"]
    assert catalog.get("f").version == "2"
    assert catalog.get("f", "1.9").version == "1.9"
    assert catalog.versions("none") == []


def test_what_is_unknown_is_told_with_what_is_known(functions):
    catalog = Catalog(functions("a/v1", "a/v2", "b/v1"))
    with pytest.raises(FunctionNotFound, match="function not found: c; known functions: a, b"):
        catalog.get("c")
    with pytest.raises(FunctionNotFound, match="function not found: a v3; known versions: 1, 2"):
        catalog.get("a", "3")


@pytest.mark.parametrize("name", ["../a", "a/../b", "", ".", "a/v1"])
def test_a_name_is_looked_up_and_never_a_path(functions, name):
    catalog = Catalog(functions("a/v1", "b/v1"))
    with pytest.raises(FunctionNotFound):
        catalog.get(name)


def test_an_empty_directory_has_no_functions(tmp_path):
    assert len(Catalog(tmp_path)) == 0
    with pytest.raises(FunctionNotFound, match="there is none"):
        Catalog(tmp_path).get("a")


@pytest.mark.parametrize("name", ["none", "file"])
def test_a_directory_that_cannot_be_read_is_an_error_with_the_hint(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"functionsDir: cannot be read: .*laid out as <name>/v<version>") as caught:
        Catalog(tmp_path / name)
    assert caught.value.file == str(tmp_path / name)


def test_a_version_without_its_module_is_an_error_that_names_the_file(functions):
    root = functions("a/v1")
    (root / "a" / "v2").mkdir()
    (root / "a" / "v2" / "other.txt").write_bytes(b"")
    with pytest.raises(
        ModuleLoadError, match=r"failed to load module .*a/v2/a\.wasm: no such file; put the module of a v2"
    ):
        Catalog(root)


def test_a_version_that_is_not_built_names_the_command(functions):
    root = functions("a/v1")
    (root / "a" / "v2").mkdir()
    (root / "a" / "v2" / "function.yaml").write_text("build:\n  command: cc -o {output} src/a.c\n")
    with pytest.raises(ModuleLoadError, match=r"a/v2/a\.wasm: no such file; run starlette-wasm build a@2$"):
        Catalog(root)


def test_names_that_are_none_are_skipped_with_a_line_in_the_log(functions, caplog):
    caplog.set_level(logging.WARNING)
    root = functions("a/v1")
    for folder in ("b c/v1", "ü/v1", "a/2", "a/1.0", "a/v", "a/v1..2", "-x/v1", "a..b/v1"):
        (root / folder).mkdir(parents=True)
    (root / "README.md").write_text("")
    (root / ".git" / "v1").mkdir(parents=True)
    (root / "a" / ".v3").mkdir()
    assert [str(source) for source in Catalog(root)] == ["a v1"]
    skipped = {record.args[0].name for record in caplog.records}
    assert skipped == {"b c", "ü", "2", "1.0", "v", "v1..2", "-x", "a..b"}


def test_hidden_entries_of_a_mounted_config_map_are_no_functions(functions):
    root = functions("..data/f/v1")
    (root / "f").symlink_to("..data/f")
    assert [str(source) for source in Catalog(root)] == ["f v1"]


def test_a_manifest_says_what_a_version_needs(functions):
    root = functions("a/v1")
    (root / "a/v1/function.yaml").write_text("protocol: cgi\nenvVars: [API_KEY]\ndescription: greets\n")
    manifest = Catalog(root).get("a").manifest
    assert (manifest.protocol, manifest.env_vars, manifest.description) == ("cgi", ["API_KEY"], "greets")
    (root / "a/v1/function.yaml").write_text("{}")
    assert Catalog(root).get("a").manifest.protocol == "edge"


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("protocl: edge", "protocl", "did you mean protocol"),
        ("protocol: http", "protocol", "'http'"),
        ("envVars: [1A]", r"envVars\[0\]", "'1A'"),
        ("envVars: API_KEY", "envVars", "is not a list"),
        ("description: 3", "description", "is not a string"),
        ("- a", "", "is not a mapping"),
        ("a: [", "", "line 1"),
    ],
)
def test_a_wrong_manifest_is_an_error_that_names_file_key_and_hint(functions, text, key, problem):
    root = functions("a/v1")
    (root / "a/v1/function.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"function\.yaml: .*{key}.*{problem}"):
        Catalog(root)


SECRET = "sk-live-0123456789abcdef"


def outside(tmp_path: Path) -> Path:
    """A file of the host that no link in functionsDir may lead to."""
    file = tmp_path / "host" / "f.wasm"
    file.parent.mkdir()
    file.write_text(SECRET)
    return file


LINKS: dict[str, Callable[[Path, Path], object]] = {
    "manifest": lambda folder, out: (folder / "f/v1/function.yaml").symlink_to(out),
    "manifest by steps": lambda folder, out: [
        (folder / "f/v1/step").symlink_to(out.parent),
        (folder / "f/v1/function.yaml").symlink_to("step/f.wasm"),
    ],
    "module": lambda folder, out: [(folder / "f/v1/f.wasm").unlink(), (folder / "f/v1/f.wasm").symlink_to(out)],
    "version": lambda folder, out: (folder / "f/v2").symlink_to(out.parent),
    "name": lambda folder, out: [(out.parent / "v1").symlink_to("."), (folder / "g").symlink_to(out.parent)],
    "relative": lambda folder, out: (folder / "f/v1/function.yaml").symlink_to("../../../host/f.wasm"),
    "to a directory": lambda folder, out: (folder / "f/v1/function.yaml").symlink_to(folder),
    "a FIFO": lambda folder, out: os.mkfifo(folder / "f/v1/function.yaml"),
}


@pytest.mark.parametrize("kind", LINKS)
def test_no_link_is_followed_out_of_functions_dir(tmp_path: Path, kind: str) -> None:
    add_function(tmp_path, "f", "echo")
    LINKS[kind](tmp_path / "functions", outside(tmp_path))
    with pytest.raises((ConfigError, ModuleLoadError)) as caught:
        Catalog(tmp_path / "functions")
    assert SECRET not in str(caught.value)
    assert str(tmp_path / "functions") in str(caught.value)


def test_links_that_stay_inside_are_followed(tmp_path: Path) -> None:
    """As a ConfigMap is mounted: what is seen are links into a hidden folder, which is a link too."""
    add_function(tmp_path, "f", "echo", description="mine")
    functions = tmp_path / "functions"
    (functions / "..2026").mkdir()
    for name in ("f.wasm", "function.yaml"):
        (functions / "f/v1" / name).rename(functions / "..2026" / name)
        (functions / "f/v1" / name).symlink_to(f"../../..data/{name}")
    (functions / "..data").symlink_to("..2026")
    (functions / "f/v2").symlink_to("v1")
    (tmp_path / "link").symlink_to("functions")
    for root in (functions, tmp_path / "link"):
        sources = list(Catalog(root))
        assert {source.version: source.manifest.description for source in sources} == {"1": "mine", "2": "mine"}
        for source in sources:
            with source.open() as stream:
                assert stream.read(4) == b"\0asm"


def test_a_manifest_is_bounded(tmp_path: Path) -> None:
    add_function(tmp_path, "f", "echo")
    file = tmp_path / "functions/f/v1/function.yaml"
    file.write_text("description: " + "x" * (65536 - 14) + "\n")
    assert len(Catalog(tmp_path / "functions")) == 1
    deep = "nested too deeply|exceeded maximum nesting depth"  # the latter is PyYAML's, from 6.0.4
    for text, problem in (
        ("description: " + "x" * (65536 - 13) + "\n", "larger than 64 KiB"),
        ("a: " + "[" * 60_000, deep),
        ("a: " + "{a: " * 15_000, deep),
        ("- " * 30_000, deep),
        ("a: &a [" + "1, " * 9000 + "]\nb: [" + "*a, " * 9000 + "]", "more than 1000000 entries"),
    ):
        file.write_text(text)
        begin = time.monotonic()
        with pytest.raises(ConfigError, match=problem) as caught:
            Catalog(tmp_path / "functions")
        assert (caught.value.file, time.monotonic() - begin < 30) == (str(file), True)


def test_what_is_bad_is_left_out_where_that_is_wanted(tmp_path: Path) -> None:
    for name in ("good", "bad", "gone", "closed"):
        add_function(tmp_path, name, "echo")
    folder = tmp_path / "functions"
    (folder / "bad/v1/function.yaml").write_text("protokol: cgi")
    (folder / "gone/v1/gone.wasm").unlink()
    (folder / "closed/v2").mkdir()
    with pytest.raises(ConfigError, match="protokol"):
        Catalog(folder)
    catalog = Catalog(folder, leave_out=True)
    assert [str(each) for each in catalog] == ["closed v1", "good v1"]
    assert sorted(catalog.bad) == [("bad", "1"), ("closed", "2"), ("gone", "1")]
    assert catalog.bad_key("bad", None) == catalog.bad_key("bad", "1") == ("bad", "1")
    assert catalog.bad_key("closed", None) is None
    assert catalog.bad_key("closed", "2") == ("closed", "2")
    assert catalog.bad_key("good", "9") is None


@pytest.mark.parametrize("name", ["function.yml", "function.json", "manifest.yaml"])
def test_a_manifest_under_another_name_is_refused(functions, name):
    (functions("f/v1") / "f" / "v1" / name).write_text("protocol: cgi")
    with pytest.raises(ConfigError, match=f"{name}: is not read; rename it to function.yaml"):
        Catalog(functions())


def test_a_manifest_above_the_versions_is_warned_about(functions, caplog):
    (functions("f/v1") / "f" / "function.yaml").write_text("protocol: cgi")
    Catalog(functions())
    assert "f/function.yaml is not read: each version has its own" in caplog.text


@pytest.mark.parametrize("name", ["function.yaml", "f.wasm"])
def test_a_fifo_is_not_waited_for(functions, name):
    place = functions("f/v1") / "f" / "v1" / name
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    with pytest.raises((ConfigError, ModuleLoadError), match="it is not a regular file"):
        Catalog(functions())


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ("{PORT: 8080}", "env.PORT: 8080 is not a string; put it in quotes if it is meant as one"),
        ("{A: [b]}", r"env.A: \['b'\] is not a string; put it in quotes if it is meant as one"),
        ("{A: {fromenv: B}}", "env.A.fromenv: unknown key, with the value 'B'; did you mean fromEnv?"),
        ("{A: {fromEnv: B, fromFile: /c}}", "env.A: .* names no place, or two; write fromEnv or fromFile"),
        ('{"A=B": c}', "env.A=B: 'A=B' is not a name of an environment variable"),
        ("{A: {fromFile: b}}", "env.A.fromFile: 'b' is not an absolute path"),
    ],
)
def test_complaints_about_variables_name_one_cause(functions, env, complaint):
    (functions("f/v1") / "f" / "v1" / "function.yaml").write_text(f"env: {env}")
    with pytest.raises(ConfigError, match=f"function.yaml: {complaint}") as caught:
        Catalog(functions())
    assert not caught.value.others
