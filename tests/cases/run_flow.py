"""`python -m tests.cases.run_flow`: the flow `drift-loop`, on a Prefect server of its own."""

from __future__ import annotations

from prefect.testing.utilities import prefect_test_harness

if __name__ == "__main__":
    with prefect_test_harness(server_startup_timeout=120):
        from flows.drift_loop import drift_loop

        drift_loop()
