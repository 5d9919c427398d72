"""Fault campaigns: each module breaks one thing many times, and counts what was lost, duplicated or wrongly recorded."""
