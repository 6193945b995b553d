"""Benchmarks: one script a claim; each prints a table and one JSON line. Run as `python -m benchmarks.NAME`."""
