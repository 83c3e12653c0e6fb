"""The questions of docs/questions.md, and the programs that are asked about."""

from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SERVED = 16397  # the port of serve.py
#: Programs to be run, by file name.
PROGRAMS = {
    "shop.py": (EXAMPLES / "shop.py").read_text(),
    "ml.py": """import time
import numpy as np
weights, gradients = np.ones(4_000_000), np.zeros(1_000_000)
for step in range(30):
    gradients += 0.1
    weights[:500_000] -= gradients[:500_000]
    time.sleep(0.1)
""",
    "serve.py": f"""import http.server, os
from array import array
titles = [f"article {{number:40}}" for number in range(300_000)]
prices = array("d", range(300_000))
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        first = int(self.path[1:]) * 10_000
        found = [title for title in titles[first : first + 10_000] if "7" in title]
        total = sum(prices[first : first + 10_000])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{{len(found)}} titles, {{total}}".encode())
server = http.server.HTTPServer(("127.0.0.1", {SERVED}), Page)
for worker in range(2):
    if not os.fork():
        server.serve_forever()
os.wait()
""",
}
#: What is typed to Python before the question.
SESSION = (
    "import numpy as np",
    "import fastpagemap as fpm",
    "array = np.zeros(1 << 27, np.uint8)",
    "array[: 20 << 20] = 1",
)


class Question(NamedTuple):
    """A question, the command that answers it, what else there is, and what is to be said of it.

    `last`: how the last part of the answer begins, which alone is shown; all of it, if empty.
    """

    text: str
    command: str
    more: str
    smem: str = ""
    pmap: str = ""
    last: str = ""


def questions(redis: int, postgres: int) -> list[Question]:
    """Return the questions, of these processes."""
    return [
        Question(
            "What is swapped, in which process, in which mapping?",
            "fastpagemap redis-server --filter swapped",
            "For all processes, use `fastpagemap report --all --sort swapped`. smem has sums of "
            "processes, and pmap has sums of mappings.",
            smem="smem -P redis-server -c 'pid swap'",
            pmap=f"pmap -X {redis}",
        ),
        Question(
            "Is my array in RAM?",
            "fpm.resident(array)",
            "These are the bytes of the array that are in RAM; `array.nbytes` is 134217728. "
            "`fpm.resident` takes anything that has memory.",
        ),
        Question(
            "How much did each line allocate, and how much of it is in RAM?",
            "fastpagemap run shop.py",
            "It needs memray: `pip install 'fastpagemap[memray]'`.",
        ),
        Question(
            "How fast does a program write, and where?",
            "fastpagemap writes ml.py",
            "For a process that runs already, use `fastpagemap writes PID`, if the kernel has "
            "soft-dirty bits.",
        ),
        Question(
            "Why did my workers grow?",
            "fastpagemap forks --count 5 serve.py",
            "This is a server with two workers that answer requests. They only read `titles`, a "
            "list of strings, but its copies grew: each look at a string counts a reference in "
            "it, and its page is copied. To read `prices`, an array of numbers, copies nothing. "
            "For a server that runs already, use `fastpagemap forks PID --interval 5`; it shows "
            "no objects.",
            smem="smem -P serve.py",
            last="process ",
        ),
        Question(
            "What does this service use?",
            f"fastpagemap report --tree {postgres}",
            "`union` counts each page once. `unique` is what would be freed if the service ended. "
            "smem has neither, and counts swapped shared memory once for each process.",
            smem="smem -tP postgres",
        ),
        Question(
            "Why is this JVM so large?",
            "fastpagemap java --group kind",
            "Most of its size is reserved, not used. `fastpagemap java --min 1M` shows it by "
            "mapping.",
            pmap="pmap -X $(pidof java)",
        ),
        Question(
            "What has changed since?",
            f"fastpagemap diff before.fpm {redis}",
            f"`fastpagemap dump {redis} -o before.fpm` had saved the state before.",
        ),
        Question(
            "Where is the machine's swap?",
            "fastpagemap report --swap",
            "The total counts each place in swap once. Below it is the shared memory in swap that "
            "no process maps, and the rest that is unexplained.",
            smem="smem -rs swap",
        ),
    ]
