"""Loads a model, turns a scheduled batch into tensors, executes it."""
