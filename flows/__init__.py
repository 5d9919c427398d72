"""The Prefect flows: wiring over `healthpredict.operations`."""
