"""Token ids in, token ids out: the paged-attention engine. This door imports no torch.

Handlers use `api`, `params`, `errors` and `config`; `client` starts the engine process.
"""
