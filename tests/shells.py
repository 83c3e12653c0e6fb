"""Real shells on a terminal, and what the command answers when they complete a word."""

import os
import pty
import select
import shlex
import shutil
import signal
import struct
import sys
import termios
import time
import warnings
from fcntl import ioctl

import commandline
from needs import need

SHELLS = ["bash", "zsh", "fish"]
INIT = {
    "bash": "PROMPT_COMMAND='((++lines))'; PS1='ready $lines> '",
    "zsh": "precmd() { ((++lines)) }; setopt promptsubst; PS1='ready $lines> '; "
    "autoload -Uz compinit; compinit -u -D",
    "fish": "set -g lines 0; function up --on-event fish_prompt; set lines (math $lines + 1); end; "
    "function fish_prompt; echo -n ready $lines'> '; end",
}
#: What is on the path of a shell as `fastpagemap`.
WRAPPER = """#!/bin/sh
if [ "$_FASTPAGEMAP_COMPLETE" ]; then
    {python} -P -m fastpagemap
    echo >>{directory}/completed
else
    printf '%s\\0' $# "$@" >>{directory}/ran
fi
"""


def run(*arguments, **variables):
    said = commandline.run(*arguments, env={**os.environ, **variables})
    assert (said.returncode, said.stderr) == (0, b"")
    return os.fsdecode(said.stdout)


def completed(shell, *words):
    """What the real command answers to click's script when TAB is pressed after these words."""
    return run(
        _FASTPAGEMAP_COMPLETE=f"{shell}_complete",
        COMP_WORDS=shlex.join(["fastpagemap", *words]),
        COMP_CWORD=shlex.quote(words[-1]) if shell == "fish" else str(len(words)),
    )


def as_answer(shell, *items):
    """The answer that has these items, each a type and a value, and no other."""
    return "".join(f"{t}\n{v}\n_\n" if shell == "zsh" else f"{t},{v}\n" for t, v in items)


def forked(fork):
    with warnings.catch_warnings():  # numpy may run idle threads; the child makes no use of them
        warnings.simplefilter("ignore", DeprecationWarning)
        return fork()


class Shell:
    """An interactive shell on a terminal, in a directory that strangers may write to."""

    def __init__(self, name, directory):
        path = shutil.which(name)
        need(path, name)
        self._directory, self._screen, self._lines = directory, b"", 0
        script = run("completion", name)
        for file in ("init", ".zshrc"):
            (directory / file).write_text(f"{INIT[name]}\n{script}")
        for log in ("completed", "ran"):
            (directory / log).touch()
        wrapper = directory / "fastpagemap"
        places = {"python": sys.executable, "directory": str(directory)}
        wrapper.write_text(WRAPPER.format(**{key: shlex.quote(places[key]) for key in places}))
        wrapper.chmod(0o755)
        self.here = directory / "here"
        self.here.mkdir()
        arguments = {
            "bash": ["--noprofile", "--rcfile", f"{directory}/init", "-i"],
            "zsh": ["-d", "-i"],
            "fish": ["--no-config", "-C", f"source {shlex.quote(str(directory / 'init'))}", "-i"],
        }
        environment = {
            **{name: str(directory) for name in ("HOME", "ZDOTDIR", "XDG_RUNTIME_DIR")},
            "PATH": f"{directory}:/usr/local/bin:/usr/bin:/bin",
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
        }
        self._pid, self._terminal = forked(pty.fork)
        if self._pid == 0:
            try:
                os.chdir(self.here)
                os.execve(path, [name, *arguments[name]], environment)
            finally:
                os._exit(1)
        ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", 50, 200, 0, 0))
        self._wait_for_prompt()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        os.kill(self._pid, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self._pid, 0)

    def ran_with(self, typed, tabs=1):
        """Type a word and TAB, then Enter: the arguments the shell gave to fastpagemap report."""
        before, completed = self._log("ran"), len(self._log("completed"))
        self._type(b"fastpagemap report " + typed)
        for tab in range(1, tabs + 1):
            self._type(b"\t")
            self._until(lambda tab=tab: len(self._log("completed")) == completed + tab)
        self._type(b"\r")
        self._until(lambda: self._log("ran") != before)
        self._wait_for_prompt()
        count, *arguments = self._log("ran")[len(before) :].split(b"\0")[:-1]
        assert (int(count), arguments[0]) == (len(arguments), b"report")
        return arguments[1:]

    def _wait_for_prompt(self):
        self._lines += 1
        self._until(lambda: f"ready {self._lines}> ".encode() in self._screen)

    def _log(self, name):
        return (self._directory / name).read_bytes()

    def _type(self, text):
        os.write(self._terminal, text)

    def _until(self, condition):
        end = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < end, f"waited in vain; on the screen: {self._screen[-2000:]}"
            if select.select([self._terminal], [], [], 0.01)[0]:
                self._screen += os.read(self._terminal, 1 << 16)
