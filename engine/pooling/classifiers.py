"""Classifiers behind the transformer, computed by transformers' own classes over hidden states that are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from specserve.engine.config import PoolerConfig
from specserve.engine.params import PoolingParams, PoolingTask
from specserve.engine.request import Request

Activation = Callable[[Tensor], Tensor]
PROBE_TOKENS = 3


class Given(nn.Module):
    """Stands where the transformer was, and returns hidden states that have been computed already."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.pooler = take_pooler(body)
        self.hidden = torch.empty(0)

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPoolingAndCrossAttentions:
        pooled = None if self.pooler is None else self.pooler(self.hidden)
        return BaseModelOutputWithPoolingAndCrossAttentions(last_hidden_state=self.hidden, pooler_output=pooled)


def take_pooler(body: Any) -> nn.Module | None:
    """The layer that some transformers compute behind the last one, which is then no part of them any more."""
    pooler: nn.Module | None = getattr(body, "pooler", None)
    if pooler is not None:
        body.pooler = None
    return pooler


class ClassifierHead:
    """Probabilities of classes, for a text or for each of its tokens."""

    def __init__(
        self, model: PreTrainedModel, body: nn.Module, *, own: Activation, usual: Activation, pooler: PoolerConfig
    ) -> None:
        """Takes `model` over: `body`, its transformer, is taken out and everything else computes in float32.

        `own` is the activation the authors want, `usual` that of probabilities.
        """
        self._given = Given(body)
        setattr(model, model.base_model_prefix, self._given)
        self._model = model.float()
        self._own = own if pooler.use_activation is None else usual if pooler.use_activation else nn.Identity()
        self._usual = usual
        self._step_tag_id = pooler.step_tag_id
        self._columns = None if pooler.returned_token_ids is None else list(pooler.returned_token_ids)
        config: Any = model.config
        self._filler = 1 if config.pad_token_id == 0 else 0  # an id that counts as a token
        self._is_token_wise = hasattr(model, "num_labels") and "TokenClassification" in type(model).__name__
        hidden_size = int(config.get_text_config().hidden_size)
        self._device = next(self._model.parameters()).device
        self._reads_first = not self._is_token_wise and self._depends_on_first_alone(hidden_size)

    def reads_all(self, params: PoolingParams) -> bool:
        return True

    def __call__(self, hidden: Sequence[Tensor], requests: Sequence[Request]) -> list[Tensor]:
        logits = self._logits([one.float() for one in hidden])
        values = []
        for one, request in zip(logits, requests, strict=True):
            params = request.pooling
            assert params is not None
            if params.task is PoolingTask.TOKEN_CLASSIFY and self._step_tag_id is not None:
                one = one[torch.tensor(request.token_ids, device=one.device) == self._step_tag_id]
            one = one if self._columns is None else one[..., self._columns]
            wanted = params.use_activation
            values.append((self._own if wanted is None else self._usual if wanted else nn.Identity())(one))
        return values

    def _logits(self, hidden: list[Tensor]) -> list[Tensor]:
        if self._is_token_wise:
            return [self._run(one[None])[0] for one in hidden]
        if self._reads_first:
            return list(self._run(torch.stack([one[:1] for one in hidden])))
        return [self._run(one[None])[0] for one in hidden]

    def _run(self, hidden: Tensor) -> Tensor:
        """hidden [B, L, H] → logits [B, C], or [B, L, C]."""
        self._given.hidden = hidden
        ids = torch.full(hidden.shape[:2], self._filler, device=hidden.device)
        logits: Tensor = self._model(input_ids=ids).logits
        self._given.hidden = torch.empty(0)
        return logits

    @torch.inference_mode()
    def _depends_on_first_alone(self, hidden_size: int) -> bool:
        """Whether other tokens than the first make no difference; then many texts are computed at once."""
        generator = torch.Generator().manual_seed(0)
        hidden = torch.randn(1, PROBE_TOKENS, hidden_size, generator=generator).to(self._device)
        other = torch.randn(1, PROBE_TOKENS, hidden_size, generator=generator).to(self._device)
        other[:, 0] = hidden[:, 0]
        return torch.equal(self._run(hidden), self._run(other))


class LastTokenClassifierHead(ClassifierHead):
    """Of decoders: the classifier reads the last token's hidden state."""

    def reads_all(self, params: PoolingParams) -> bool:
        return self._is_token_wise


class TokenScoreHead:
    """One class: the logit of one token behind the prompt, less that of another if there is one.

    Takes logits [1, V] of each prompt's last token instead of hidden states.
    """

    def __init__(self, true_id: int, false_id: int | None, *, own: Activation, pooler: PoolerConfig) -> None:
        self._true_id, self._false_id = true_id, false_id
        self._own = own if pooler.use_activation is None else torch.sigmoid if pooler.use_activation else nn.Identity()

    def reads_all(self, params: PoolingParams) -> bool:
        return False

    def __call__(self, hidden: Sequence[Tensor], requests: Sequence[Request]) -> list[Tensor]:
        values = []
        for logits, request in zip(hidden, requests, strict=True):
            assert request.pooling is not None
            score = logits[-1, self._true_id].float()
            if self._false_id is not None:
                score = score - logits[-1, self._false_id].float()
            wanted = request.pooling.use_activation
            activation = self._own if wanted is None else torch.sigmoid if wanted else nn.Identity()
            values.append(activation(score[None]))
        return values


def usual_activation(config: Any) -> Activation:
    """What makes probabilities of logits: of several classes one holds, unless the configuration says otherwise."""
    if config.num_labels == 1 or config.problem_type == "multi_label_classification":
        return torch.sigmoid
    return nn.Softmax(dim=-1)


def own_activation(name: str | None, usual: Activation) -> Activation:
    """The class of torch that the folder names; other code is not run."""
    if name is None or not name.startswith("torch."):
        return usual
    found = getattr(nn, name.rsplit(".", 1)[-1], None)
    return found() if isinstance(found, type) and issubclass(found, nn.Module) else usual
