"""``fastpagemap completion``."""

from __future__ import annotations

from collections.abc import Iterable

import click

from fastpagemap.cli.completion import script_for


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
@click.pass_context
def completion(ctx: click.Context, shell: str) -> Iterable[str]:
    """Print a script that completes commands and options in SHELL.

    Save it where SHELL looks for completions, as in the examples, and start a new shell. The name
    of a process is completed only if it has nothing but letters, digits and '_', '.', '+', '-'.
    """
    return script_for(shell, ctx.find_root().command).splitlines()
