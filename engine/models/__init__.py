"""Transformers classes whose linears are ours."""
