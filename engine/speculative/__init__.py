"""Speculative decoding: tokens that a sequence will probably go on with, guessed without a model of their own."""
