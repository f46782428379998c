"""The declarations of the JavaScript SDK, by which an editor completes and checks a function."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from toolchains import node_tools

from starlette_wasm.cli.languages import template

SDK = Path(__file__).parents[2] / "sdk" / "javascript"
SAME = """
import * as told from "./told/index.js";
import * as made from "./made/index.js";

type Class = abstract new (...given: never[]) => unknown;
type Names<T> = T extends Class ? keyof InstanceType<T> | `static ${keyof T & string}` : keyof T;
type Differ<A, B> = Exclude<A, B> | Exclude<B, A>;
type Of<K extends keyof typeof told> = Differ<Names<(typeof told)[K]>, Names<(typeof made)[K]>>;

export const exported: Differ<keyof typeof told, keyof typeof made> extends never ? true : false = true;
export const members: { [K in keyof typeof told]: Of<K> extends never ? true : K } =
  null as unknown as { [K in keyof typeof told]: true };
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "node_modules").symlink_to(node_tools() / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}\n')
    return tmp_path


def check(project: Path, *arguments: str) -> str:
    """Return what the TypeScript compiler finds wrong."""
    compiler = project / "node_modules/typescript/bin/tsc"
    command = ["node", str(compiler), "--pretty", "false", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600, check=False)
    return done.stdout + done.stderr


def test_a_new_function_and_the_examples_are_of_the_declared_types(project: Path) -> None:
    shutil.copytree(SDK / "src", project / "edge")
    values = {"NAME": "f"}
    (project / "f.js").write_text(template("main.js", values))
    examples = (SDK / "examples/web.js").read_text().replace("@starlette-wasm/edge", "./edge/index.js")
    (project / "web.js").write_text(examples)
    (project / "jsconfig.json").write_text(template("jsconfig.json", values))
    assert check(project, "--project", "jsconfig.json") == ""
    wrong = template("main.js", values).replace("query.name", "qeury.name") + "console.log(1);\n"
    (project / "f.js").write_text(wrong)
    told = check(project, "--project", "jsconfig.json")
    assert "Did you mean 'query'?" in told
    assert "Cannot find name 'console'" in told  # QuickJS has none


def test_the_declarations_have_what_the_modules_have(project: Path) -> None:
    shutil.copytree(SDK / "src", project / "told")
    shutil.copytree(SDK / "src", project / "made", ignore=shutil.ignore_patterns("*.d.ts"))
    (project / "host.d.ts").write_text(
        'declare module "starlette-wasm:edge/host@0.1.0" {\n'
        "  export function call(operation: number, payload: Uint8Array): Uint8Array;\n"
        "  export function log(line: string): void;\n}\n"
        "declare function atob(text: string): string;\ndeclare function btoa(text: string): string;\n"
    )
    (project / "same.ts").write_text(SAME)
    options = [
        "--strict",
        "--allowJs",
        "--noEmit",
        "--target",
        "es2023",
        "--lib",
        "es2023",
        "--module",
        "nodenext",
        "--skipLibCheck",
    ]
    assert check(project, *options, "same.ts", "host.d.ts") == ""
