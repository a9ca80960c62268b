"""Runs in, pictures out: nothing here trains."""
