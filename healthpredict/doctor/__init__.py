"""Checks that find a wrong set-up before anything starts. Each reports one problem, with what fixes it."""
