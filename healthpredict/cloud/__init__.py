"""Operate the AWS host that `infra/` creates. Everything is found by name and tags, so there is no local state."""
