"""Memory of processes as metrics for Prometheus, collected when it asks: docs/metrics.md.

Needs prometheus_client: ``pip install 'fastpagemap[metrics]'``.
"""

from .collector import Collector

__all__ = ["Collector"]
