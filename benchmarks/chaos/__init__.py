"""Fault campaigns."""
