"""Anthropic Messages, over the same conversations and answers as every other chat protocol."""
