"""The wire in, the wire out: translates between generated wire types and the engine. No tensors."""
