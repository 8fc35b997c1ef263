# Written by codegen.py; change openapi/ instead.
"""One interface per tag, and the table of operations that routes are mounted from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from specserve.generated import schemas
from specserve.generated.base import ApiModel, Serialised

C = TypeVar("C", contravariant=True)


class AdaptersApi(Protocol[C]):
    """What a handler of the tag `adapters` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def load_lora_adapter(self, body: schemas.LoadAdapterRequest, context: C) -> schemas.AdapterChange:
        """Load an adapter from a folder of the server's machine."""

    @abstractmethod
    async def unload_lora_adapter(
        self, body: schemas.UnloadAdapterRequest, context: C
    ) -> schemas.AdapterChange:
        """Take an adapter away."""


class ChatApi(Protocol[C]):
    """What a handler of the tag `chat` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def create_chat_completion(
        self, body: schemas.ChatCompletionRequest, context: C
    ) -> (
        schemas.ChatCompletion
        | Serialised[schemas.ChatCompletion]
        | AsyncIterator[schemas.ChatCompletionChunk | Serialised[schemas.ChatCompletionChunk]]
    ):
        """Continue a conversation."""


class ClassifyApi(Protocol[C]):
    """What a handler of the tag `classify` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def classify(self, body: schemas.ClassifyRequest, context: C) -> schemas.ClassifyResponse:
        """Tell the class of each text."""

    @abstractmethod
    async def classify_v1(self, body: schemas.ClassifyRequest, context: C) -> schemas.ClassifyResponse:
        """Tell the class of each text."""


class CohereApi(Protocol[C]):
    """What a handler of the tag `cohere` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def embed_v1(
        self, body: schemas.CohereEmbedRequest, context: C
    ) -> schemas.CohereEmbedResponse | Serialised[schemas.CohereEmbedResponse]:
        """Turn texts into vectors."""

    @abstractmethod
    async def embed_v2(
        self, body: schemas.CohereEmbedRequest, context: C
    ) -> schemas.CohereEmbedByType | Serialised[schemas.CohereEmbedByType]:
        """Turn texts into vectors."""

    @abstractmethod
    async def rerank_v2(self, body: schemas.RerankRequest, context: C) -> schemas.RerankResponse:
        """Sort documents by how well they answer a query."""


class CompletionsApi(Protocol[C]):
    """What a handler of the tag `completions` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def create_completion(
        self, body: schemas.CompletionRequest, context: C
    ) -> (
        schemas.Completion
        | Serialised[schemas.Completion]
        | AsyncIterator[schemas.Completion | Serialised[schemas.Completion]]
    ):
        """Continue a prompt."""


class EmbeddingsApi(Protocol[C]):
    """What a handler of the tag `embeddings` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def create_embedding(
        self, body: schemas.EmbeddingRequest, context: C
    ) -> schemas.EmbeddingList | Serialised[schemas.EmbeddingList] | bytes:
        """Turn texts into vectors."""


class MessagesApi(Protocol[C]):
    """What a handler of the tag `messages` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def count_message_tokens(self, body: schemas.CountTokensRequest, context: C) -> schemas.TokenCount:
        """Count the tokens of a conversation."""

    @abstractmethod
    async def create_message(
        self, body: schemas.MessagesRequest, context: C
    ) -> (
        schemas.MessageReply
        | Serialised[schemas.MessageReply]
        | AsyncIterator[
            schemas.MessageStart
            | schemas.BlockStart
            | schemas.BlockDelta
            | schemas.BlockStop
            | schemas.MessageDelta
            | schemas.MessageStop
            | Serialised[schemas.MessageStart]
            | Serialised[schemas.BlockStart]
            | Serialised[schemas.BlockDelta]
            | Serialised[schemas.BlockStop]
            | Serialised[schemas.MessageDelta]
            | Serialised[schemas.MessageStop]
        ]
    ):
        """Answer a conversation with a message of content blocks."""


class ModelsApi(Protocol[C]):
    """What a handler of the tag `models` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def list_models(self, context: C) -> schemas.ModelList:
        """Name what is served."""

    @abstractmethod
    async def retrieve_model(self, model: str, context: C) -> schemas.Model:
        """Describe one served model."""


class PoolingApi(Protocol[C]):
    """What a handler of the tag `pooling` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def pool(
        self, body: schemas.PoolingRequest, context: C
    ) -> schemas.PoolingResponse | Serialised[schemas.PoolingResponse] | bytes:
        """Turn texts into whatever the model makes of them."""

    @abstractmethod
    async def pool_v1(
        self, body: schemas.PoolingRequest, context: C
    ) -> schemas.PoolingResponse | Serialised[schemas.PoolingResponse] | bytes:
        """Turn texts into whatever the model makes of them."""


class RenderApi(Protocol[C]):
    """What a handler of the tag `render` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def render_chat_completion(
        self, body: schemas.ChatCompletionRequest, context: C
    ) -> schemas.RenderedPrompt:
        """Show the prompt of a conversation."""

    @abstractmethod
    async def render_completion(self, body: schemas.CompletionRequest, context: C) -> schemas.RenderedPrompts:
        """Show the token ids of prompts."""


class RerankApi(Protocol[C]):
    """What a handler of the tag `rerank` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def rerank(self, body: schemas.RerankRequest, context: C) -> schemas.RerankResponse:
        """Sort documents by how well they answer a query."""

    @abstractmethod
    async def rerank_v1(self, body: schemas.RerankRequest, context: C) -> schemas.RerankResponse:
        """Sort documents by how well they answer a query."""


class ResponsesApi(Protocol[C]):
    """What a handler of the tag `responses` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def count_response_input_tokens(
        self, body: schemas.InputTokensRequest, context: C
    ) -> schemas.InputTokenCount:
        """Count the tokens of an input without answering it."""

    @abstractmethod
    async def create_response(
        self, body: schemas.ResponseRequest, context: C
    ) -> (
        schemas.Response
        | Serialised[schemas.Response]
        | AsyncIterator[schemas.ResponseStreamEvent | Serialised[schemas.ResponseStreamEvent]]
    ):
        """Answer a conversation made of items."""

    @abstractmethod
    async def cancel_response(self, response_id: str, context: C) -> schemas.Response:
        """End a response that is made in the background."""

    @abstractmethod
    async def delete_response(self, response_id: str, context: C) -> schemas.DeletedResponse:
        """Forget a stored response."""

    @abstractmethod
    async def list_response_input_items(
        self, response_id: str, query: schemas.ListResponseInputItemsQuery, context: C
    ) -> schemas.ItemList:
        """List what a stored response answered."""

    @abstractmethod
    async def retrieve_response(
        self, response_id: str, query: schemas.RetrieveResponseQuery, context: C
    ) -> (
        schemas.Response
        | Serialised[schemas.Response]
        | AsyncIterator[schemas.ResponseStreamEvent | Serialised[schemas.ResponseStreamEvent]]
    ):
        """Show a stored response, or send its events again."""


class ScoreApi(Protocol[C]):
    """What a handler of the tag `score` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def score(self, body: schemas.ScoreRequest, context: C) -> schemas.ScoreResponse:
        """Tell how well texts go together."""

    @abstractmethod
    async def score_v1(self, body: schemas.ScoreRequest, context: C) -> schemas.ScoreResponse:
        """Tell how well texts go together."""


class ServerApi(Protocol[C]):
    """What a handler of the tag `server` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def show_health(self, context: C) -> None:
        """Say whether requests can be served now."""

    @abstractmethod
    async def show_version(self, context: C) -> schemas.Version:
        """Name the running version."""


class TokenizationApi(Protocol[C]):
    """What a handler of the tag `tokenization` implements; C is what it is told about the request besides its body."""

    @abstractmethod
    async def detokenize(self, body: schemas.DetokenizeRequest, context: C) -> schemas.DetokenizeResponse:
        """Turn token ids into text."""

    @abstractmethod
    async def detokenize_v1(self, body: schemas.DetokenizeRequest, context: C) -> schemas.DetokenizeResponse:
        """Turn token ids into text."""

    @abstractmethod
    async def show_tokenizer_info(self, context: C) -> schemas.TokenizerInfo:
        """Show the tokenizer's configuration and the chat template."""

    @abstractmethod
    async def show_tokenizer_info_v1(self, context: C) -> schemas.TokenizerInfo:
        """Show the tokenizer's configuration and the chat template."""

    @abstractmethod
    async def tokenize(self, body: schemas.TokenizeRequest, context: C) -> schemas.TokenizeResponse:
        """Turn text or messages into token ids."""

    @abstractmethod
    async def tokenize_v1(self, body: schemas.TokenizeRequest, context: C) -> schemas.TokenizeResponse:
        """Turn text or messages into token ids."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One documented operation.

    statuses      everything it may answer with, success included
    refusals      the codes with which it may answer a well-formed request
    events        with `stream` it answers with server-sent events
    named_events  each event has a line that names its type
    end_mark      the last event is [DONE]
    empty         success has no body
    errors        which envelope its errors have; the one of OpenAI has no name
    protocol      the interface that has its method, named like `id`
    """

    id: str
    tag: str
    method: str
    path: str
    body: type[ApiModel] | None
    path_params: tuple[str, ...]
    query: type[ApiModel] | None
    statuses: frozenset[int]
    refusals: frozenset[str]
    events: bool
    named_events: bool
    end_mark: bool
    empty: bool
    errors: str
    protocol: type


OPERATIONS: dict[str, Operation] = {
    "load_lora_adapter": Operation(
        id="load_lora_adapter",
        tag="adapters",
        method="POST",
        path="/v1/load_lora_adapter",
        body=schemas.LoadAdapterRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 500, 503]),
        refusals=frozenset(
            [
                "adapter_not_found",
                "endpoint_disabled",
                "engine_dead",
                "missing_required_parameter",
                "model_not_found",
                "server_draining",
                "server_loading",
                "unsupported_parameter",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=AdaptersApi,
    ),
    "unload_lora_adapter": Operation(
        id="unload_lora_adapter",
        tag="adapters",
        method="POST",
        path="/v1/unload_lora_adapter",
        body=schemas.UnloadAdapterRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 500, 503]),
        refusals=frozenset(
            ["adapter_not_found", "endpoint_disabled", "engine_dead", "server_draining", "server_loading"]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=AdaptersApi,
    ),
    "create_chat_completion": Operation(
        id="create_chat_completion",
        tag="chat",
        method="POST",
        path="/v1/chat/completions",
        body=schemas.ChatCompletionRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_constraint",
                "invalid_parameter_combination",
                "invalid_prompt",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "token_out_of_vocabulary",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=True,
        named_events=False,
        end_mark=True,
        empty=False,
        errors="",
        protocol=ChatApi,
    ),
    "classify": Operation(
        id="classify",
        tag="classify",
        method="POST",
        path="/classify",
        body=schemas.ClassifyRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "token_out_of_vocabulary",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ClassifyApi,
    ),
    "classify_v1": Operation(
        id="classify_v1",
        tag="classify",
        method="POST",
        path="/v1/classify",
        body=schemas.ClassifyRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "token_out_of_vocabulary",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ClassifyApi,
    ),
    "embed_v1": Operation(
        id="embed_v1",
        tag="cohere",
        method="POST",
        path="/v1/embed",
        body=schemas.CohereEmbedRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="Cohere",
        protocol=CohereApi,
    ),
    "embed_v2": Operation(
        id="embed_v2",
        tag="cohere",
        method="POST",
        path="/v2/embed",
        body=schemas.CohereEmbedRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="Cohere",
        protocol=CohereApi,
    ),
    "rerank_v2": Operation(
        id="rerank_v2",
        tag="cohere",
        method="POST",
        path="/v2/rerank",
        body=schemas.RerankRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="Cohere",
        protocol=CohereApi,
    ),
    "create_completion": Operation(
        id="create_completion",
        tag="completions",
        method="POST",
        path="/v1/completions",
        body=schemas.CompletionRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_constraint",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "token_out_of_vocabulary",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=True,
        named_events=False,
        end_mark=True,
        empty=False,
        errors="",
        protocol=CompletionsApi,
    ),
    "create_embedding": Operation(
        id="create_embedding",
        tag="embeddings",
        method="POST",
        path="/v1/embeddings",
        body=schemas.EmbeddingRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "token_out_of_vocabulary",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=EmbeddingsApi,
    ),
    "count_message_tokens": Operation(
        id="count_message_tokens",
        tag="messages",
        method="POST",
        path="/v1/messages/count_tokens",
        body=schemas.CountTokensRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 500, 503, 504]),
        refusals=frozenset(
            [
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "server_draining",
                "server_loading",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="Messages",
        protocol=MessagesApi,
    ),
    "create_message": Operation(
        id="create_message",
        tag="messages",
        method="POST",
        path="/v1/messages",
        body=schemas.MessagesRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_constraint",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=True,
        named_events=True,
        end_mark=False,
        empty=False,
        errors="Messages",
        protocol=MessagesApi,
    ),
    "list_models": Operation(
        id="list_models",
        tag="models",
        method="GET",
        path="/v1/models",
        body=None,
        path_params=(),
        query=None,
        statuses=frozenset([200, 401, 500, 503]),
        refusals=frozenset(["server_loading"]),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ModelsApi,
    ),
    "pool": Operation(
        id="pool",
        tag="pooling",
        method="POST",
        path="/pooling",
        body=schemas.PoolingRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "token_out_of_vocabulary",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=PoolingApi,
    ),
    "pool_v1": Operation(
        id="pool_v1",
        tag="pooling",
        method="POST",
        path="/v1/pooling",
        body=schemas.PoolingRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "token_out_of_vocabulary",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=PoolingApi,
    ),
    "render_chat_completion": Operation(
        id="render_chat_completion",
        tag="render",
        method="POST",
        path="/v1/chat/completions/render",
        body=schemas.ChatCompletionRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 500, 503]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "engine_dead",
                "invalid_constraint",
                "invalid_parameter_combination",
                "invalid_prompt",
                "model_not_found",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "token_out_of_vocabulary",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=RenderApi,
    ),
    "render_completion": Operation(
        id="render_completion",
        tag="render",
        method="POST",
        path="/v1/completions/render",
        body=schemas.CompletionRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 500, 503]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "engine_dead",
                "invalid_constraint",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "token_out_of_vocabulary",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=RenderApi,
    ),
    "rerank": Operation(
        id="rerank",
        tag="rerank",
        method="POST",
        path="/rerank",
        body=schemas.RerankRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="Cohere",
        protocol=RerankApi,
    ),
    "rerank_v1": Operation(
        id="rerank_v1",
        tag="rerank",
        method="POST",
        path="/v1/rerank",
        body=schemas.RerankRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="Cohere",
        protocol=RerankApi,
    ),
    "count_response_input_tokens": Operation(
        id="count_response_input_tokens",
        tag="responses",
        method="POST",
        path="/v1/responses/input_tokens",
        body=schemas.InputTokensRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "invalid_response_state",
                "invalid_type",
                "invalid_value",
                "item_not_found",
                "missing_required_parameter",
                "model_not_found",
                "response_not_found",
                "server_loading",
                "string_above_max_length",
                "string_below_min_length",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ResponsesApi,
    ),
    "create_response": Operation(
        id="create_response",
        tag="responses",
        method="POST",
        path="/v1/responses",
        body=schemas.ResponseRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_constraint",
                "invalid_parameter_combination",
                "invalid_prompt",
                "invalid_response_state",
                "invalid_type",
                "invalid_value",
                "item_not_found",
                "missing_required_parameter",
                "model_not_found",
                "previous_response_not_found",
                "rate_limit_exceeded",
                "response_not_found",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "string_above_max_length",
                "string_below_min_length",
                "token_out_of_vocabulary",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
                "websocket_connection_limit_reached",
            ]
        ),
        events=True,
        named_events=True,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ResponsesApi,
    ),
    "score": Operation(
        id="score",
        tag="score",
        method="POST",
        path="/score",
        body=schemas.ScoreRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ScoreApi,
    ),
    "score_v1": Operation(
        id="score_v1",
        tag="score",
        method="POST",
        path="/v1/score",
        body=schemas.ScoreRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504]),
        refusals=frozenset(
            [
                "context_length_exceeded",
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "missing_required_parameter",
                "model_not_found",
                "rate_limit_exceeded",
                "server_draining",
                "server_loading",
                "server_overloaded",
                "unsupported_parameter",
                "unsupported_task",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ScoreApi,
    ),
    "show_health": Operation(
        id="show_health",
        tag="server",
        method="GET",
        path="/health",
        body=None,
        path_params=(),
        query=None,
        statuses=frozenset([200, 500, 503]),
        refusals=frozenset(["engine_dead", "server_draining", "server_loading"]),
        events=False,
        named_events=False,
        end_mark=False,
        empty=True,
        errors="",
        protocol=ServerApi,
    ),
    "show_version": Operation(
        id="show_version",
        tag="server",
        method="GET",
        path="/version",
        body=None,
        path_params=(),
        query=None,
        statuses=frozenset([200, 500]),
        refusals=frozenset(),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ServerApi,
    ),
    "detokenize": Operation(
        id="detokenize",
        tag="tokenization",
        method="POST",
        path="/detokenize",
        body=schemas.DetokenizeRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 404, 408, 413, 415, 500, 503, 504]),
        refusals=frozenset(
            [
                "deadline_exceeded",
                "engine_dead",
                "model_not_found",
                "server_draining",
                "server_loading",
                "token_out_of_vocabulary",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=TokenizationApi,
    ),
    "detokenize_v1": Operation(
        id="detokenize_v1",
        tag="tokenization",
        method="POST",
        path="/v1/detokenize",
        body=schemas.DetokenizeRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 500, 503, 504]),
        refusals=frozenset(
            [
                "deadline_exceeded",
                "engine_dead",
                "model_not_found",
                "server_draining",
                "server_loading",
                "token_out_of_vocabulary",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=TokenizationApi,
    ),
    "show_tokenizer_info": Operation(
        id="show_tokenizer_info",
        tag="tokenization",
        method="GET",
        path="/tokenizer_info",
        body=None,
        path_params=(),
        query=None,
        statuses=frozenset([200, 404, 500, 503]),
        refusals=frozenset(["endpoint_disabled", "engine_dead", "server_draining", "server_loading"]),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=TokenizationApi,
    ),
    "show_tokenizer_info_v1": Operation(
        id="show_tokenizer_info_v1",
        tag="tokenization",
        method="GET",
        path="/v1/tokenizer_info",
        body=None,
        path_params=(),
        query=None,
        statuses=frozenset([200, 401, 404, 500, 503]),
        refusals=frozenset(["endpoint_disabled", "engine_dead", "server_draining", "server_loading"]),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=TokenizationApi,
    ),
    "tokenize": Operation(
        id="tokenize",
        tag="tokenization",
        method="POST",
        path="/tokenize",
        body=schemas.TokenizeRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 404, 408, 413, 415, 500, 503, 504]),
        refusals=frozenset(
            [
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "model_not_found",
                "server_draining",
                "server_loading",
                "unsupported_parameter",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=TokenizationApi,
    ),
    "tokenize_v1": Operation(
        id="tokenize_v1",
        tag="tokenization",
        method="POST",
        path="/v1/tokenize",
        body=schemas.TokenizeRequest,
        path_params=(),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 408, 413, 415, 500, 503, 504]),
        refusals=frozenset(
            [
                "deadline_exceeded",
                "engine_dead",
                "invalid_parameter_combination",
                "invalid_prompt",
                "model_not_found",
                "server_draining",
                "server_loading",
                "unsupported_parameter",
                "unsupported_value",
            ]
        ),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=TokenizationApi,
    ),
    "retrieve_model": Operation(
        id="retrieve_model",
        tag="models",
        method="GET",
        path="/v1/models/{model}",
        body=None,
        path_params=("model",),
        query=None,
        statuses=frozenset([200, 401, 404, 500, 503]),
        refusals=frozenset(["model_not_found", "server_loading"]),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ModelsApi,
    ),
    "cancel_response": Operation(
        id="cancel_response",
        tag="responses",
        method="POST",
        path="/v1/responses/{response_id}/cancel",
        body=None,
        path_params=("response_id",),
        query=None,
        statuses=frozenset([200, 400, 401, 404, 500]),
        refusals=frozenset(["invalid_response_state", "response_not_found"]),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ResponsesApi,
    ),
    "delete_response": Operation(
        id="delete_response",
        tag="responses",
        method="DELETE",
        path="/v1/responses/{response_id}",
        body=None,
        path_params=("response_id",),
        query=None,
        statuses=frozenset([200, 401, 404, 500]),
        refusals=frozenset(["response_not_found"]),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ResponsesApi,
    ),
    "list_response_input_items": Operation(
        id="list_response_input_items",
        tag="responses",
        method="GET",
        path="/v1/responses/{response_id}/input_items",
        body=None,
        path_params=("response_id",),
        query=schemas.ListResponseInputItemsQuery,
        statuses=frozenset([200, 400, 401, 404, 500]),
        refusals=frozenset(["item_not_found", "response_not_found"]),
        events=False,
        named_events=False,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ResponsesApi,
    ),
    "retrieve_response": Operation(
        id="retrieve_response",
        tag="responses",
        method="GET",
        path="/v1/responses/{response_id}",
        body=None,
        path_params=("response_id",),
        query=schemas.RetrieveResponseQuery,
        statuses=frozenset([200, 400, 401, 404, 500]),
        refusals=frozenset(["invalid_parameter_combination", "invalid_response_state", "response_not_found"]),
        events=True,
        named_events=True,
        end_mark=False,
        empty=False,
        errors="",
        protocol=ResponsesApi,
    ),
}

APIS: dict[str, type] = {
    "adapters": AdaptersApi,
    "chat": ChatApi,
    "classify": ClassifyApi,
    "cohere": CohereApi,
    "completions": CompletionsApi,
    "embeddings": EmbeddingsApi,
    "messages": MessagesApi,
    "models": ModelsApi,
    "pooling": PoolingApi,
    "render": RenderApi,
    "rerank": RerankApi,
    "responses": ResponsesApi,
    "score": ScoreApi,
    "server": ServerApi,
    "tokenization": TokenizationApi,
}
