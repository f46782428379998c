"""``compile``: fills the AOT cache."""

from __future__ import annotations

from . import inspection, output
from .options import ConfigArgument, ConfigToo, Json, config_of


def compile_all(config: ConfigArgument = None, given: ConfigToo = None, json: Json = False) -> None:
    """Compile the functions of a config into the AOT cache.

    An app that starts afterwards loads them from there, in milliseconds. Do it when a container image is built, with
    the user that runs the app: the cache trusts only its own files. STARLETTE_WASM_CACHE_DIR names its folder.

    Example: starlette-wasm compile wasm.yaml
    """
    file = config_of(config, given)
    with output.loading():
        rows = inspection.compiled(file)
    output.show_rows(rows, json=json, empty=inspection.in_order(file, "functions"))
