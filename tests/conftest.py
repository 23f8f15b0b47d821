"""Loads the fixtures of tests/support for all tests."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.plugin"]

# A busy machine is no failure.
settings.register_profile("easyq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("easyq")
