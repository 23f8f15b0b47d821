"""What every EasyQ server needs, and nothing of the domain.

The modules here are an allow-list: ``batching`` (micro-batches on long streams), ``channel`` (client side of gRPC),
``clock``, ``error_reports`` (errors told to Sentry and others), ``errors`` (the error tree), ``faults`` (crash points
for tests), ``ids``, ``interceptors``, ``logs``, ``loops``, ``process`` (event loop and signals), ``server`` (gRPC,
health, reflection), ``settings`` and ``status`` (errors as gRPC statuses).
"""
