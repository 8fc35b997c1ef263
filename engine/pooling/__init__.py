"""Embedding and classifying: what a model folder says about it, poolers, heads."""
