"""``fastpagemap doctor`` and ``fastpagemap completion``."""

from __future__ import annotations

from collections.abc import Iterable

import click

from fastpagemap import capabilities
from fastpagemap.cli import targets


@click.command(
    short_help="What this kernel and this user can be asked.",
    epilog="""
\b
Examples:
  fastpagemap doctor                 of one's own processes
  sudo fastpagemap doctor postgres   of that process, by root
  fastpagemap doctor before.fpm      when and where that file was made
""",
)
@click.argument("target", shell_complete=targets.complete, required=False)
def doctor(target: str | None) -> Iterable[str]:
    """Show what this kernel, and this user, can be asked of TARGET, or of any process of one's own.

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote. What is
    missing is named with what it would need.
    """
    whose = None if target is None else targets.resolve(target)
    if whose is None or isinstance(whose, int):
        return str(capabilities(whose)).splitlines()
    return str(whose.capabilities).splitlines()


@click.command(
    short_help="Complete commands and options in a shell.",
    epilog="""
\b
Examples:
  fastpagemap completion bash > ~/.local/share/bash-completion/completions/fastpagemap
  fastpagemap completion zsh > ~/.zfunc/_fastpagemap
  fastpagemap completion fish > ~/.config/fish/completions/fastpagemap.fish
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> Iterable[str]:
    """Print a script that completes commands and options in SHELL.

    Save it where SHELL looks for completions, as below, and start a new one.
    """
    from click.shell_completion import get_completion_class

    from fastpagemap.cli.commands import cli

    maker = get_completion_class(shell)
    assert maker is not None
    return maker(cli, {}, "fastpagemap", "_FASTPAGEMAP_COMPLETE").source().splitlines()
