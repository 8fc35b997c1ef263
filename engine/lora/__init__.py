"""Adapters: low-rank changes to a model's linear layers, read from PEFT folders, each for the rows that want it."""
