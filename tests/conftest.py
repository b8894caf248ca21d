"""Hypothesis profiles: few repeatable draws for ``make test``, many for ``make prove``."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from browser import browser, opened  # noqa: F401  (fixtures of every test)

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("reduced", max_examples=25, deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("full", max_examples=400, deadline=None, suppress_health_check=QUIET)
settings.load_profile("full" if os.environ.get("EVENLY_PROVE") == "1" else "reduced")
