"""What the operator decides about how answers look, where a request does not, or whatever it says."""

from __future__ import annotations

from dataclasses import dataclass

from specserve.generated import schemas
from specserve.handlers.openai.reply import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDefaults:
    """`tokens_as_ids`: for requests that do not say how tokens are written. `counts_always`: for every stream."""

    tokens_as_ids: bool = False
    counts_always: bool = False

    def fill(self, body: Request) -> None:
        """Write the decisions into the request, as if its sender had made them."""
        if self.tokens_as_ids and body.return_tokens_as_token_ids is None:
            body.return_tokens_as_token_ids = True
        if self.counts_always and body.stream:
            body.stream_options = schemas.StreamOptions(include_usage=True, continuous_usage_stats=True)
