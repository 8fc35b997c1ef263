"""Blocks, prefix hashing and the manager that hands them out. Only `layout` knows torch."""
