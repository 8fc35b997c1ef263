"""How calls are written in each tool format, as grammars: what lets strict tools keep to their schemas in free text."""
