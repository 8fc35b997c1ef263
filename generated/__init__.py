# Written by codegen.py; change openapi/ instead.
"""The contract in Python: wire types, errors, operations. Imports pydantic and the standard library only."""

from importlib.resources import files


def document() -> bytes:
    """The published openapi.json, as it is on disk."""
    return files(__name__).joinpath("openapi.json").read_bytes()
