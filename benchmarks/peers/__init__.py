"""This server and its peers side by side: same cores, same checkpoints, in turn, in one run. See `__main__`."""
