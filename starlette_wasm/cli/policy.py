"""``policy``: what the policies of a config grant."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Literal

import typer

from ..config.policy import SandboxPolicy, is_shipped, load_policies, unknown_policy
from ..config.router import EdgeRouterConfig, load_config
from ..config.settings import load_settings
from ..exceptions import ConfigError
from . import output
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .table import Row

Name = Annotated[
    str | None, typer.Argument(help="A policy, for all of its keys; by default all policies.", metavar="NAME")
]
Args = Annotated[
    Literal["wasmtime", "wasmedge"] | None,
    typer.Option("--args", help="Print the options that run a module by hand under it, with this tool."),
]


def policy(name: Name = None, args: Args = None, config: ConfigOption = DEFAULT_CONFIG, json: Json = False) -> None:
    """List the policies, or show one: what it grants, and which rules use it.

    Those of the package are edge-none, edge-strict and edge-moderate; a file of the same name in policiesDir takes
    precedence. With --args the options are on stdout, and what the tool cannot enforce is on stderr.

    Example: starlette-wasm policy edge-strict --args wasmtime
    """
    loaded = load_config(config) if config.exists() else EdgeRouterConfig()
    policies = load_policies(loaded.policies_dir, str(config))
    if name is None:
        output.show_rows([_row(each, loaded) for _, each in sorted(policies.items())], json=json)
        return
    if name not in policies:
        raise ConfigError(
            f"no policy is called {name!r}", file=config, hint=unknown_policy(name, policies, loaded.policies_dir)
        )
    found = policies[name]
    if args is not None:
        _print_args(found, args)
    elif json:
        output.show_json({"name": name, **found.model_dump(by_alias=True), "usedBy": _users(name, loaded)})
    else:
        output.show_fields(_fields(found, loaded))


def _row(policy: SandboxPolicy, config: EdgeRouterConfig) -> Row:
    return {
        "policy": policy.name,
        "from": "the package" if is_shipped(policy) else "policiesDir",
        "memory": f"{policy.max_memory_pages * 64} KiB",
        "time": f"{policy.execution_timeout_ms} ms",
        "hosts": ", ".join(policy.allowed_hosts) or "none",
        "dirs": ", ".join(each.guest_path for each in policy.allowed_dirs) or "none",
        "stores": ", ".join([*policy.kv_namespaces, *policy.queues]) or "none",
        "used by": len(_users(policy.name, config)),
    }


def _users(name: str, config: EdgeRouterConfig) -> list[str]:
    """Return the patterns of the rules under a policy."""
    default = load_settings().default_policy
    return [rule.path_pattern for rule in config.rules if (rule.policy or default) == name]


def _fields(policy: SandboxPolicy, config: EdgeRouterConfig) -> list[tuple[str, str]]:
    fields = [("name", policy.name), ("used by", "\n".join(_users(policy.name, config)) or "no rule")]
    for key, value in policy.model_dump(by_alias=True).items():
        shown = "\n".join(map(str, value)) or "none" if isinstance(value, list) else str(value).lower()
        fields.append((key, shown))
    return fields


def _print_args(policy: SandboxPolicy, tool: Literal["wasmtime", "wasmedge"]) -> None:
    given = policy.to_wasmtime_args() if tool == "wasmtime" else policy.to_wasmedge_args()
    command = ["wasmtime", "run", *given] if tool == "wasmtime" else ["wasmedge", *given]
    print(shlex.join(command))
    for each in policy.not_expressible(tool):
        print(f"{tool} cannot enforce {each}", file=sys.stderr)
