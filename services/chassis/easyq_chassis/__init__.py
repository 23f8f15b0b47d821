"""What every EasyQ server needs, and nothing of the domain.

The modules here are an allow-list: ``batching`` (micro-batches on long streams), ``channel`` (client side of gRPC),
``clock``, ``error_reports`` (errors told to Sentry and others), ``errors`` (the error tree), ``faults`` (crash points
for tests), ``ids``, ``interceptors``, ``logs`` and ``log_bounds`` (how often they repeat themselves), ``loops``,
``metrics``, ``ops`` (the operations port), ``process`` (event loop and signals), ``server`` (gRPC, health, reflection),
``settings``, ``stacks`` (what SIGUSR2 writes), ``status`` (errors as gRPC statuses), ``tracing``
and ``wrapping`` (what interceptors share).
"""

import os

# Read when gRPC is imported, so before: its own lines are of another form than ours, and tell of connections that go.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
