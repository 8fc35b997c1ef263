# Written by codegen.py; change openapi/ instead.
"""One exception class per documented error code; a code that is not documented has no class to raise."""

from collections.abc import Mapping
from typing import ClassVar


class ApiError(Exception):
    """An answer that is an error. Only the classes in ERRORS can be raised: they have a code."""

    status: ClassVar[int]
    type: ClassVar[str]
    code: ClassVar[str]
    retryable: ClassVar[bool]

    def __init__(
        self, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        if not hasattr(self, "code"):
            raise TypeError(f"{type(self).__name__} has no code; raise one of its subclasses")
        super().__init__(message)
        self.message, self.param, self.headers = message, param, dict(headers or {})

    def body(self) -> dict[str, dict[str, str | None]]:
        """The envelope every error is sent in."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class BadRequest(ApiError):
    """The request is malformed, or cannot be served as asked."""

    status = 400
    type = "invalid_request_error"


class InvalidRequest(BadRequest):
    """The body or a parameter does not have the documented shape, type or range."""

    code = "invalid_request"
    retryable = False


class ContextLengthExceeded(BadRequest):
    """Prompt and requested output do not fit the model's context."""

    code = "context_length_exceeded"
    retryable = False


class UnsupportedParameter(BadRequest):
    """The field is known, but this server or model does not offer it."""

    code = "unsupported_parameter"
    retryable = False


class UnsupportedValue(BadRequest):
    """The field is offered, this value of it is not."""

    code = "unsupported_value"
    retryable = False


class InvalidParameterCombination(BadRequest):
    """Each field is fine, together they contradict each other."""

    code = "invalid_parameter_combination"
    retryable = False


class TokenOutOfVocabulary(BadRequest):
    """A token id is not in the model's vocabulary."""

    code = "token_out_of_vocabulary"
    retryable = False


class InvalidPrompt(BadRequest):
    """The chat template refuses the messages, or the prompt has no tokens."""

    code = "invalid_prompt"
    retryable = False


class Unauthorized(ApiError):
    """No valid key was presented."""

    status = 401
    type = "invalid_request_error"


class InvalidApiKey(Unauthorized):
    """The server needs an API key and none, or another one, was sent."""

    code = "invalid_api_key"
    retryable = False


class NotFound(ApiError):
    """What the request names does not exist here."""

    status = 404
    type = "invalid_request_error"


class RouteNotFound(NotFound):
    """There is no such path."""

    code = "not_found"
    retryable = False


class ModelNotFound(NotFound):
    """No model or adapter is served under this name."""

    code = "model_not_found"
    retryable = False


class EndpointDisabled(NotFound):
    """The path is known, but this server was started without it."""

    code = "endpoint_disabled"
    retryable = False


class MethodNotAllowed(ApiError):
    """The path does not take this method."""

    status = 405
    type = "invalid_request_error"


class WrongMethod(MethodNotAllowed):
    """The path exists, but not with this method."""

    code = "method_not_allowed"
    retryable = False


class PayloadTooLarge(ApiError):
    """The body is larger or deeper than the server accepts."""

    status = 413
    type = "invalid_request_error"


class RequestTooLarge(PayloadTooLarge):
    """The body has more bytes, or is nested deeper, than the server accepts."""

    code = "request_too_large"
    retryable = False


class TooManyRequests(ApiError):
    """The client sends more than it may."""

    status = 429
    type = "rate_limit_error"


class RateLimitExceeded(TooManyRequests):
    """This client sends more than it may."""

    code = "rate_limit_exceeded"
    retryable = True


class ServerError(ApiError):
    """Something failed inside the server."""

    status = 500
    type = "server_error"


class InternalError(ServerError):
    """Something failed inside the server."""

    code = "internal_error"
    retryable = True


class ServiceUnavailable(ApiError):
    """The server cannot take the request now; trying again later can help."""

    status = 503
    type = "server_error"


class ServerOverloaded(ServiceUnavailable):
    """The queue is full, or the request waited too long in it."""

    code = "server_overloaded"
    retryable = True


class ServerLoading(ServiceUnavailable):
    """The model is still being loaded."""

    code = "server_loading"
    retryable = True


class ServerDraining(ServiceUnavailable):
    """The server finishes what it has and takes nothing new."""

    code = "server_draining"
    retryable = True


class EngineDead(ServiceUnavailable):
    """The engine stopped or no longer answers."""

    code = "engine_dead"
    retryable = True


ERRORS: dict[str, type[ApiError]] = {
    "invalid_request": InvalidRequest,
    "context_length_exceeded": ContextLengthExceeded,
    "unsupported_parameter": UnsupportedParameter,
    "unsupported_value": UnsupportedValue,
    "invalid_parameter_combination": InvalidParameterCombination,
    "token_out_of_vocabulary": TokenOutOfVocabulary,
    "invalid_prompt": InvalidPrompt,
    "invalid_api_key": InvalidApiKey,
    "not_found": RouteNotFound,
    "model_not_found": ModelNotFound,
    "endpoint_disabled": EndpointDisabled,
    "method_not_allowed": WrongMethod,
    "request_too_large": RequestTooLarge,
    "rate_limit_exceeded": RateLimitExceeded,
    "internal_error": InternalError,
    "server_overloaded": ServerOverloaded,
    "server_loading": ServerLoading,
    "server_draining": ServerDraining,
    "engine_dead": EngineDead,
}
