"""Paged attention: backends behind one Protocol, and the function transformers calls."""
