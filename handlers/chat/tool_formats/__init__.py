"""How model families write tool calls: a few engines, and one line of data for every name."""
