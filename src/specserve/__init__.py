"""specserve: an OpenAI-compatible inference server with generated wire types and a paged-attention engine."""

__version__ = "0.1.0"
