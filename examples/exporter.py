"""Tell Prometheus what memory the processes of this machine have: docs/metrics.md.

    python examples/exporter.py [--listen 127.0.0.1:9256] [--by name] [--budget 0.01] [--top 100]

It needs prometheus_client: pip install 'fastpagemap[metrics]'. Root sees all processes; any other
user their own. What it costs itself is in process_cpu_seconds_total.
"""

import argparse
import sys

from prometheus_client import REGISTRY, start_http_server

from fastpagemap.metrics import Collector


def main():
    """Answer until this is ended."""
    parser = argparse.ArgumentParser(description="Memory of processes, for Prometheus.")
    parser.add_argument("--listen", default="127.0.0.1:9256", metavar="ADDRESS:PORT")
    parser.add_argument("--by", default="name", choices=("name", "cgroup", "unit"))
    parser.add_argument("--budget", default=0.01, type=float)
    parser.add_argument("--top", default=100, type=int)
    options = parser.parse_args()
    address, _, port = options.listen.rpartition(":")
    REGISTRY.register(Collector(budget=options.budget, by=options.by, top=options.top))
    server, thread = start_http_server(int(port), address.strip("[]"))
    print(f"http://{address}:{server.server_port}/metrics", flush=True)
    thread.join()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        sys.exit(f"exporter: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
