"""What every test shares: how hypothesis behaves on a busy machine."""

import contextlib

with contextlib.suppress(ImportError):  # the bare install may go without
    from hypothesis import HealthCheck, settings

    # Machines are shared: how long an example takes says nothing about the code.
    settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
    settings.load_profile("shared")
