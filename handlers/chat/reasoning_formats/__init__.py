"""How model families write their reasoning: one engine, and one line of data for every name."""
