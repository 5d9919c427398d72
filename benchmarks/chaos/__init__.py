"""Fault campaigns: each module injects one kind of fault many times, and counts what was lost, duplicated or misrecorded."""
