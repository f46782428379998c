"""``new``: a function, or an app with one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..config.names import is_function_name
from ..exceptions import ConfigError
from . import output
from .languages import Lang
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .scaffold import Made, new_app, new_from_module, new_function

_COLUMNS = 80
Name = Annotated[str, typer.Argument(help="Name of the function, or of the app's folder.")]
Language = Annotated[Lang, typer.Option("--lang", help="What the function is written in.")]
IsApp = Annotated[
    bool, typer.Option("--app", help="Make a folder NAME with an app, a policy, a test and a Dockerfile.")
]
From = Annotated[
    Path | None, typer.Option("--from", metavar="FILE", help="Take this module in, instead of a template.")
]
At = Annotated[str | None, typer.Option("--path", help="Path pattern of the rule; by default /NAME.")]


def new(
    name: Name,
    lang: Language = Lang.C,
    app: IsApp = False,
    module: From = None,
    path: At = None,
    policy: Annotated[str | None, typer.Option(help="Policy of the rule.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Begin a function: its source, its function.yaml, a test, and a rule in wasm.yaml, whose comments stay.

    With --app it is a folder with all that an app needs, and the function hello in it. With --from a module is taken
    in: it is looked at as inspect does, and gets the protocol that fits. Files that are there are not overwritten.

    Then: starlette-wasm build, starlette-wasm dev, python -m pytest.

    Example: starlette-wasm new shop --app --lang zig
    """
    _check_name(name)
    if app and module is not None:
        raise typer.BadParameter("--app begins with a template; use --from in the app's folder")
    if app:
        made = new_app(Path(name), lang)
    elif module is not None:
        made = new_from_module(name, module, config, path or f"/{name}", policy)
    else:
        made = new_function(name, lang, config, path or f"/{name}", policy)
    if json:
        output.show_json({"files": [str(file) for file in made.files], "next": made.then})
    else:
        _show(made)


def _check_name(name: str) -> None:
    if not is_function_name(name) or not name[0].isalpha():
        hint = "begin with a letter, and go on with letters, digits, - and _"
        raise ConfigError(f"{name!r} is not a name for a function", hint=hint)


def _show(made: Made) -> None:
    for file in made.files:
        output.show_text(f"  {file}", "green")
    for note in made.notes:
        output.show_text(note)
    then = "next: " + ", then ".join(made.then)
    if len(then) > _COLUMNS:
        then = "\n  ".join(["next:", *made.then])
    output.show_text(then, "bold")
