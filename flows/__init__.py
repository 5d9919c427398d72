"""The Prefect flows: wiring over `healthpredict.operations`."""

from healthpredict.config import quiet_vendors

# At import, because a Prefect worker calls no other function of ours before a flow.
quiet_vendors()
