from __future__ import annotations

import logging

import pytest

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
def test_a_directory_that_cannot_be_read_is_an_error_with_the_mend(tmp_path, name):
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
        ("envVars: API_KEY", "envVars", "is no list"),
        ("description: 3", "description", "is no string"),
        ("- a", "", "is no mapping"),
        ("a: [", "", "line 1"),
    ],
)
def test_a_wrong_manifest_is_an_error_that_names_file_key_and_mend(functions, text, key, problem):
    root = functions("a/v1")
    (root / "a/v1/function.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"function\.yaml: .*{key}.*{problem}"):
        Catalog(root)
