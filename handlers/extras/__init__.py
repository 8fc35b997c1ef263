"""Endpoints of our own family beside the OpenAI protocol, over the same wire messages."""
