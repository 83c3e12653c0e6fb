"""A Prometheus server on loopback, and the exporter of examples/ that it asks."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import needs

EXPORTER = Path(__file__).resolve().parent.parent / "examples/exporter.py"
PATIENCE_S = 120
CONFIGURATION = """
global: {{scrape_interval: 3s, scrape_timeout: 3s}}
scrape_configs:
  - job_name: memory
    static_configs: [{{targets: ["{target}"]}}]
"""


@contextlib.contextmanager
def exporter(*arguments):
    """The exporter, on a port of its own: ADDRESS:PORT."""
    command = [sys.executable, EXPORTER, "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, "the exporter has ended"
            yield urllib.parse.urlsplit(line.strip()).netloc
        finally:
            process.kill()


@contextlib.contextmanager
def server(target):
    """Prometheus, which asks `target` every 3 s: a function that answers queries."""
    needs.need(shutil.which("prometheus"), "prometheus (Debian's package prometheus)")
    with tempfile.TemporaryDirectory() as directory, socket.socket() as free:
        configuration = Path(directory, "prometheus.yml")
        configuration.write_text(CONFIGURATION.format(target=target))
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
        free.close()
        with open(Path(directory, "log"), "w+") as log:
            process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=log,
                cwd=directory,
            )
            try:
                yield Server(process, address)
            except BaseException:
                log.seek(0)
                print(log.read())  # pytest shows it
                raise
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait()


class Server:
    """A server that runs."""

    def __init__(self, process, address):
        self._process, self._address = process, address

    def ask(self, query):
        """Ask once: labels and values, none before the first scrape."""
        path = f"http://{self._address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(path, timeout=PATIENCE_S) as answer:
            found = json.load(answer)["data"]["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def answer(self, query):
        """Ask until there is an answer."""
        end = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                if found := self.ask(query):
                    return found
            assert self._process.poll() is None, "prometheus has ended"
            assert time.monotonic() < end, f"no answer to {query}"
            time.sleep(0.2)
