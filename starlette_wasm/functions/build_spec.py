"""``build:`` in ``function.yaml``: how a function is made from its sources."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StrictStr

from ..config.validation import FileModel, wrong


def _check_inside(path: str) -> str:
    if path.startswith("/") or "\0" in path:
        raise wrong("is not below the folder of function.yaml", "write such as src")
    return path


_Line = Annotated[StrictStr, Field(min_length=1)]
_Path = Annotated[StrictStr, Field(min_length=1), AfterValidator(_check_inside)]


class BuildSpec(FileModel):
    """The commands run in the folder of ``function.yaml``, without a shell, and paths count from there.

    In a command ``{output}`` is the file that it is to write, ``{build}`` a folder for what lies in between,
    ``{cache}`` one that stays until the next build, and ``{rust_target}`` the target for WASI that the Rust here has;
    ``NAME=VALUE`` in front sets a variable.
    """

    command: _Line | Annotated[list[_Line], Field(min_length=1)] = Field(
        description="The command, or several that run one after the other."
    )
    quick: _Line | Annotated[list[_Line], Field(min_length=1)] | None = Field(
        default=None, description="What dev builds with first, if that is faster; the command follows."
    )
    watch: list[_Path] = Field(default=["src"], description="Files and folders whose change means to build again.")
    output: _Path | None = Field(default=None, description="The file that the command writes, if it takes no {output}.")

    @property
    def commands(self) -> list[str]:
        """The commands, in their order."""
        return [self.command] if isinstance(self.command, str) else self.command

    @property
    def quick_commands(self) -> list[str]:
        """What makes the module soonest, in its order."""
        return [self.quick] if isinstance(self.quick, str) else self.quick or self.commands
