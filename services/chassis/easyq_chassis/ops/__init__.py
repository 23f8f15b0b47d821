"""The operations port of a service: metrics, liveness, readiness. Only for operators' own programs."""
