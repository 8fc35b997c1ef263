"""Benchmarks of the whole server and of its parts, each beside a baseline measured in the same run."""
