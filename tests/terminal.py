"""``fastpagemap watch`` on a terminal of its own."""

import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

COMMAND = [sys.executable, "-m", "fastpagemap", "watch"]


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *arguments, size=(80, 24), command=COMMAND, **environment):
        self.leader, self.follower = pty.openpty()
        ioctl(self.follower, termios.TIOCSWINSZ, struct.pack("4H", size[1], size[0], 0, 0))
        self.before = termios.tcgetattr(self.follower)
        ends = dict.fromkeys(("stdin", "stdout", "stderr"), self.follower)
        variables = {**os.environ, "TERM": "xterm-256color", **environment}
        command = [*command, *map(str, arguments)]
        self.process = subprocess.Popen(command, env=variables, start_new_session=True, **ends)
        self.written = b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()
        os.close(self.leader)
        os.close(self.follower)

    def read_until(self, text):
        """Read what is drawn until a text has come."""
        end = time.monotonic() + 120
        while text not in self.written:
            assert time.monotonic() < end, self.written[-2000:]
            if select.select([self.leader], [], [], 0.1)[0]:
                self.written += os.read(self.leader, 1 << 16)

    def leave(self, by):
        """Press a key, or send a signal; wait for the end, and return the exit status."""
        if isinstance(by, bytes):
            os.write(self.leader, by)
        else:
            self.process.send_signal(by)
        return self.wait()

    def wait(self):
        """Wait for the end, reading on."""
        while self.process.poll() is None:
            if select.select([self.leader], [], [], 0.05)[0]:
                self.written += os.read(self.leader, 1 << 16)
        while select.select([self.leader], [], [], 0.05)[0]:
            self.written += os.read(self.leader, 1 << 16)
        return self.process.returncode

    def is_sane(self):
        """Whether modes are as before, the screen is the first one again, the cursor is shown."""
        left = self.written.rfind(b"\x1b[?1049l") > self.written.rfind(b"\x1b[?1049h")
        cursor = self.written.rfind(b"\x1b[?25h") > self.written.rfind(b"\x1b[?25l")
        return left and cursor and termios.tcgetattr(self.follower) == self.before
