"""What is wrong with a command line, in words; and options as other programs call them."""

from __future__ import annotations

import click

__all__ = ["message"]

#: What ps, pmap, smem, top and others call an option, and what it may be called here.
HABITS = {
    **dict.fromkeys(("-s", "-k", "-r", "--order"), ("--sort", "--interval")),
    **dict.fromkeys(("-u", "-U"), ("--user",)),
    **dict.fromkeys(("-P", "--comm"), ("--name",)),
    **dict.fromkeys(("-a", "-A", "-e"), ("--all",)),
    **dict.fromkeys(("-d", "-i", "--delay"), ("--interval",)),
    **dict.fromkeys(("-n", "--limit", "--head", "--lines"), ("-n", "--limit", "--count")),
    **dict.fromkeys(("-c", "--fields"), ("--columns", "--count")),
    **dict.fromkeys(("-x", "-X", "-XX"), ("--columns",)),
    **dict.fromkeys(("-j", "-f", "--format"), ("--json",)),
    **dict.fromkeys(("-g", "--group-by"), ("--group",)),
}
# As the dashes are the same, click's own 0.6 suggests --interval for --filter.
_SIMILAR = 0.75
#: A process is no option.
PIDS = ("-p", "--pid")


def message(error: click.ClickException) -> str:
    """Return what is wrong, without a full stop: more follows."""
    if not isinstance(error, click.NoSuchOption):
        return error.format_message().rstrip(".")
    text, name = error.message.rstrip("."), error.option_name
    if name in PIDS:
        return f"{text}: the id of a process stands alone"
    own = {each for it in (error.ctx.command.params if error.ctx else ()) for each in it.opts}
    known = [each for each in HABITS.get(name, ()) if each in own]
    if known:
        return f"{text}: here it is {known[0]}"
    import difflib  # rarely needed

    similar = difflib.get_close_matches(name, own, 1, _SIMILAR)
    return f"{text}; did you mean '{similar[0]}'?" if similar else text
