"""Random command lines, with real and nonsense targets: exit 0, 1 or 2, and one line of why.

Options come from the commands themselves; output goes to files in a directory of its own.
"""

import contextlib
import io
import os
import signal
import sys
import tempfile

import _torture  # isort: skip
import click

import fastpagemap as fpm
import runas
from fastpagemap import cli
from fastpagemap.cli.group import COMMANDS
from fastpagemap.cli.group import cli as group
from victim import Victim

#: Notes of a report: what has ended, what is not told or changed, what was not read or seen.
MAX_NOTES = 5
#: Command lines in one child.
BATCH = 20
#: Numbers, sizes, names, patterns and texts that are none of them.
_NUMBERS = "0 1 -1 3.5 1e400 nan inf 0x10 4k 1T 16EiB"
_NAMES = "- -- swapped present [ ( * . .. / %s {} name python [heap] /proc/self /dev/null /none/x"
_FILES = "kept.fpm broken.fpm entries maps out.json out.png out.csv deep/out.txt"
WORDS = [*_NUMBERS.split(), *_NAMES.split(), *_FILES.split(), "\udcff"]
WORDS += ["", " ", "\n", "a\nb", "\x1b[31m", "é", "9" * 40, "a" * 5000]
#: These end by themselves only with a terminal and a key, or by Ctrl-C.
_ENDLESS = {"watch", "top", "writes", "forks", "run", "record"}
#: Seconds that one command line may take.
LONGEST = 20


def options_of(name):
    """The options of a command, and whether each takes a value."""
    command = group.get_command(click.Context(group), name)
    found = [("--help", False), ("--nonsense", True)]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            takes_value = not (parameter.is_flag or parameter.count)
            found += [(text, takes_value) for text in parameter.opts]
    return found


class Commands:
    """A target, a snapshot of it, and a directory to write to."""

    def __init__(self, stack):
        self.victim = stack.enter_context(Victim())
        made = self.victim.make("sparse", 100)
        self.directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastpagemap-"))
        stack.enter_context(contextlib.chdir(self.directory))
        assert cli.main(["dump", str(self.victim.pid), "-o", "kept.fpm"]) == 0
        with open("kept.fpm", "rb") as file, open("broken.fpm", "wb") as broken:
            broken.write(file.read()[:-100])
        with open(f"/proc/{self.victim.pid}/maps", "rb") as file, open("maps", "wb") as copy:
            copy.write(file.read())
        with fpm.PageMap(self.victim.pid) as pm:
            pm.read(made.start, made.end).entries.tofile("entries")
        self.options = {name: options_of(name) for name in COMMANDS if name not in _ENDLESS}

    def targets(self):
        """What a command may be told to look at."""
        pid = str(self.victim.pid)
        return [pid, pid, "kept.fpm", "kept.fpm", "1", "2", "4194000", *WORDS]

    def command_line(self, chance):
        """Mostly a command, its options and targets; now and then anything."""
        if chance.random() < 0.05:
            return [chance.choice(WORDS) for _ in range(chance.randint(0, 4))]
        name = chance.choice(sorted(self.options))
        words = [name]
        for _ in range(chance.randint(0, 4)):
            option, takes_value = chance.choice(self.options[name])
            words.append(option)
            if takes_value and chance.random() < 0.95:
                words.append(chance.choice([*WORDS, "1", "2", "10", "swapped"]))
        words += [chance.choice(self.targets()) for _ in range(chance.choice([0, 1, 1, 1, 2, 3]))]
        if chance.random() < 0.1:
            chance.shuffle(words)
        return [word for word in words if word not in _ENDLESS]

    def one_round(self, chance, counts):
        """A few command lines in one child."""
        asked = [self.command_line(chance) for _ in range(BATCH)]
        for line, (code, error) in zip(asked, runas.in_child(self.try_all, asked), strict=True):
            what = [word[:60] for word in line]
            assert code in (0, 1, 2), f"exit status {code}: {what}"
            assert "Traceback" not in error, f"{what}: {error}"
            assert "please report" not in error, f"{what}: {error}"
            # a command that succeeds may have a note to make; and a word that is taken for a file
            # is named first; processes of one name are told apart in a table
            lines = [each for each in error.splitlines() if ", so it is the file ./" not in each]
            lines = [each for each in lines if not each.startswith("  ")]
            # `files` has one for each file that cannot be asked, and one for processes
            most = len(line) if line[:1] == ["files"] else 1 if code else MAX_NOTES
            assert len(lines) <= most, f"{what}: {error}"
            assert error.startswith("fastpagemap: ") or not (error or code), f"{what}: {error!r}"
            counts[f"exit {code}"] += 1

    def try_all(self, lines):
        """In the child: exit status and error output of each."""
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)  # '-o -' means this one
        return [self.attempt(line) for line in lines]

    def attempt(self, line):
        """One command line, its output thrown away."""
        out, error = io.StringIO(), io.StringIO()
        signal.alarm(LONGEST)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                code = cli.main(line)
            except SystemExit as ended:
                code = ended.code or 0
            except _torture.Hang:
                raise AssertionError(f"more than {LONGEST} s: {line}") from None
        signal.alarm(0)
        assert not isinstance(code, str), code
        return code, error.getvalue()


if __name__ == "__main__":
    given = _torture.arguments()
    with contextlib.ExitStack() as stack:
        status = _torture.run(Commands(stack).one_round, given)
    sys.exit(status)
