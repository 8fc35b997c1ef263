# Written by codegen.py; change openapi/ instead.
"""One exception class per documented error code; a code that is not documented has no class to raise."""

from collections.abc import Mapping
from typing import ClassVar, Literal


class ApiError(Exception):
    """An answer that is an error. Only the classes in ERRORS can be raised: they have a code.

    names_field    whether `param` is given
    retryable      whether the same request can succeed later
    """

    status: ClassVar[int]
    type: ClassVar[str]
    code: ClassVar[str]
    summary: ClassVar[str]
    names_field: ClassVar[Literal["always", "sometimes", "never"]]
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
    """The body is empty, is no JSON, or is no JSON object."""

    code = "invalid_request"
    summary = "The body is empty, is no JSON, or is no JSON object."
    names_field = "never"
    retryable = False


class MissingRequiredParameter(BadRequest):
    """A field that has to be there is not."""

    code = "missing_required_parameter"
    summary = "A field that has to be there is not."
    names_field = "always"
    retryable = False


class InvalidType(BadRequest):
    """A value has another JSON type than its field."""

    code = "invalid_type"
    summary = "A value has another JSON type than its field."
    names_field = "always"
    retryable = False


class InvalidValue(BadRequest):
    """A value of the right type is not one of those the field takes."""

    code = "invalid_value"
    summary = "A value of the right type is not one of those the field takes."
    names_field = "always"
    retryable = False


class IntegerBelowMinValue(BadRequest):
    """An integer is lower than its field allows."""

    code = "integer_below_min_value"
    summary = "An integer is lower than its field allows."
    names_field = "always"
    retryable = False


class IntegerAboveMaxValue(BadRequest):
    """An integer is higher than its field allows."""

    code = "integer_above_max_value"
    summary = "An integer is higher than its field allows."
    names_field = "always"
    retryable = False


class DecimalBelowMinValue(BadRequest):
    """A number is lower than its field allows."""

    code = "decimal_below_min_value"
    summary = "A number is lower than its field allows."
    names_field = "always"
    retryable = False


class DecimalAboveMaxValue(BadRequest):
    """A number is higher than its field allows."""

    code = "decimal_above_max_value"
    summary = "A number is higher than its field allows."
    names_field = "always"
    retryable = False


class StringBelowMinLength(BadRequest):
    """A text is shorter than its field allows."""

    code = "string_below_min_length"
    summary = "A text is shorter than its field allows."
    names_field = "always"
    retryable = False


class StringAboveMaxLength(BadRequest):
    """A text is longer than its field allows."""

    code = "string_above_max_length"
    summary = "A text is longer than its field allows."
    names_field = "always"
    retryable = False


class ArrayAboveMaxLength(BadRequest):
    """An array or object has more entries than its field allows."""

    code = "array_above_max_length"
    summary = "An array or object has more entries than its field allows."
    names_field = "always"
    retryable = False


class EmptyArray(BadRequest):
    """An array that needs entries has none."""

    code = "empty_array"
    summary = "An array that needs entries has none."
    names_field = "always"
    retryable = False


class UnsupportedTask(BadRequest):
    """The model cannot do what the path is for, such as embeddings of a model that writes text."""

    code = "unsupported_task"
    summary = "The model cannot do what the path is for, such as embeddings of a model that writes text."
    names_field = "always"
    retryable = False


class ContextLengthExceeded(BadRequest):
    """Prompt and requested output do not fit the model's context."""

    code = "context_length_exceeded"
    summary = "Prompt and requested output do not fit the model's context."
    names_field = "sometimes"
    retryable = False


class UnsupportedParameter(BadRequest):
    """The field is known, but this server or model does not offer it."""

    code = "unsupported_parameter"
    summary = "The field is known, but this server or model does not offer it."
    names_field = "always"
    retryable = False


class UnsupportedValue(BadRequest):
    """The field is offered, this value of it is not."""

    code = "unsupported_value"
    summary = "The field is offered, this value of it is not."
    names_field = "sometimes"
    retryable = False


class InvalidParameterCombination(BadRequest):
    """Each field is fine, together they contradict each other."""

    code = "invalid_parameter_combination"
    summary = "Each field is fine, together they contradict each other."
    names_field = "always"
    retryable = False


class TokenOutOfVocabulary(BadRequest):
    """A token id is not in the model's vocabulary."""

    code = "token_out_of_vocabulary"
    summary = "A token id is not in the model's vocabulary."
    names_field = "always"
    retryable = False


class InvalidPrompt(BadRequest):
    """The chat template refuses the messages, or the prompt has no tokens."""

    code = "invalid_prompt"
    summary = "The chat template refuses the messages, or the prompt has no tokens."
    names_field = "always"
    retryable = False


class InvalidConstraint(BadRequest):
    """The schema, pattern, grammar or structural tag the answer shall meet is wrong, or too large to compile."""

    code = "invalid_constraint"
    summary = "The schema, pattern, grammar or structural tag the answer shall meet is wrong, or too large to compile."
    names_field = "always"
    retryable = False


class PreviousResponseNotFound(BadRequest):
    """On a WebSocket, previous_response_id names nothing that is stored or was made on this connection, or a continuation from it has failed."""

    code = "previous_response_not_found"
    summary = "On a WebSocket, previous_response_id names nothing that is stored or was made on this connection, or a continuation from it has failed."
    names_field = "always"
    retryable = False


class WebsocketConnectionLimitReached(BadRequest):
    """A WebSocket has been open for 60 minutes, the limit, and is closed."""

    code = "websocket_connection_limit_reached"
    summary = "A WebSocket has been open for 60 minutes, the limit, and is closed."
    names_field = "never"
    retryable = False


class InvalidResponseState(BadRequest):
    """The response is not in a state that allows this, such as cancelling one that has ended."""

    code = "invalid_response_state"
    summary = "The response is not in a state that allows this, such as cancelling one that has ended."
    names_field = "always"
    retryable = False


class ItemNotFound(BadRequest):
    """An item_reference names no item of the conversation so far."""

    code = "item_not_found"
    summary = "An item_reference names no item of the conversation so far."
    names_field = "always"
    retryable = False


class UnknownParameter(BadRequest):
    """The body has a field nobody knows, and the server was started with --strict-params."""

    code = "unknown_parameter"
    summary = "The body has a field nobody knows, and the server was started with --strict-params."
    names_field = "always"
    retryable = False


class Unauthorized(ApiError):
    """No valid key was presented."""

    status = 401
    type = "invalid_request_error"


class InvalidApiKey(Unauthorized):
    """The server needs an API key and none, or another one, was sent."""

    code = "invalid_api_key"
    summary = "The server needs an API key and none, or another one, was sent."
    names_field = "never"
    retryable = False


class NotFound(ApiError):
    """What the request names does not exist here."""

    status = 404
    type = "invalid_request_error"


class RouteNotFound(NotFound):
    """There is no such path."""

    code = "unknown_url"
    summary = "There is no such path."
    names_field = "never"
    retryable = False


class ModelNotFound(NotFound):
    """No model or adapter is served under this name."""

    code = "model_not_found"
    summary = "No model or adapter is served under this name."
    names_field = "always"
    retryable = False


class ResponseNotFound(NotFound):
    """No response of this client is stored under this id; it was never stored, was deleted, or has expired."""

    code = "response_not_found"
    summary = "No response of this client is stored under this id; it was never stored, was deleted, or has expired."
    names_field = "always"
    retryable = False


class EndpointDisabled(NotFound):
    """The path is known, but this server was started without it."""

    code = "endpoint_disabled"
    summary = "The path is known, but this server was started without it."
    names_field = "never"
    retryable = False


class AdapterNotFound(NotFound):
    """There is no adapter of that name, or none in that folder."""

    code = "adapter_not_found"
    summary = "There is no adapter of that name, or none in that folder."
    names_field = "never"
    retryable = False


class MethodNotAllowed(ApiError):
    """The path does not take this method."""

    status = 405
    type = "invalid_request_error"


class WrongMethod(MethodNotAllowed):
    """The path exists, but not with this method."""

    code = "method_not_allowed"
    summary = "The path exists, but not with this method."
    names_field = "never"
    retryable = False


class RequestTimeout(ApiError):
    """The request did not arrive in time."""

    status = 408
    type = "invalid_request_error"


class BodyTimeout(RequestTimeout):
    """The body did not arrive in time."""

    code = "request_timeout"
    summary = "The body did not arrive in time."
    names_field = "never"
    retryable = True


class PayloadTooLarge(ApiError):
    """The body is larger or deeper than the server accepts."""

    status = 413
    type = "invalid_request_error"


class RequestTooLarge(PayloadTooLarge):
    """The body has more bytes, or is nested deeper, than the server accepts."""

    code = "request_too_large"
    summary = "The body has more bytes, or is nested deeper, than the server accepts."
    names_field = "never"
    retryable = False


class UnsupportedMediaType(ApiError):
    """The body is not of the type the operation takes."""

    status = 415
    type = "invalid_request_error"


class WrongMediaType(UnsupportedMediaType):
    """The body was not sent as JSON."""

    code = "unsupported_media_type"
    summary = "The body was not sent as JSON."
    names_field = "never"
    retryable = False


class TooManyRequests(ApiError):
    """The client sends more than it may."""

    status = 429
    type = "rate_limit_error"


class RateLimitExceeded(TooManyRequests):
    """This client sends more than it may."""

    code = "rate_limit_exceeded"
    summary = "This client sends more than it may."
    names_field = "never"
    retryable = True


class ServerError(ApiError):
    """Something failed inside the server."""

    status = 500
    type = "server_error"


class InternalError(ServerError):
    """Something failed inside the server."""

    code = "internal_error"
    summary = "Something failed inside the server."
    names_field = "never"
    retryable = True


class ServiceUnavailable(ApiError):
    """The server cannot take the request now; trying again later can help."""

    status = 503
    type = "server_error"


class ServerOverloaded(ServiceUnavailable):
    """The queue is full, or the request waited too long in it."""

    code = "server_overloaded"
    summary = "The queue is full, or the request waited too long in it."
    names_field = "never"
    retryable = True


class ServerLoading(ServiceUnavailable):
    """The model is still being loaded."""

    code = "server_loading"
    summary = "The model is still being loaded."
    names_field = "never"
    retryable = True


class ServerDraining(ServiceUnavailable):
    """The server finishes what it has and takes nothing new."""

    code = "server_draining"
    summary = "The server finishes what it has and takes nothing new."
    names_field = "never"
    retryable = True


class EngineDead(ServiceUnavailable):
    """The engine stopped or no longer answers."""

    code = "engine_dead"
    summary = "The engine stopped or no longer answers."
    names_field = "never"
    retryable = True


class GatewayTimeout(ApiError):
    """The answer took longer than it may."""

    status = 504
    type = "server_error"


class DeadlineExceeded(GatewayTimeout):
    """The answer was not complete in the time that the server or the request allows."""

    code = "deadline_exceeded"
    summary = "The answer was not complete in the time that the server or the request allows."
    names_field = "never"
    retryable = True


ERRORS: dict[str, type[ApiError]] = {
    "invalid_request": InvalidRequest,
    "missing_required_parameter": MissingRequiredParameter,
    "invalid_type": InvalidType,
    "invalid_value": InvalidValue,
    "integer_below_min_value": IntegerBelowMinValue,
    "integer_above_max_value": IntegerAboveMaxValue,
    "decimal_below_min_value": DecimalBelowMinValue,
    "decimal_above_max_value": DecimalAboveMaxValue,
    "string_below_min_length": StringBelowMinLength,
    "string_above_max_length": StringAboveMaxLength,
    "array_above_max_length": ArrayAboveMaxLength,
    "empty_array": EmptyArray,
    "unsupported_task": UnsupportedTask,
    "context_length_exceeded": ContextLengthExceeded,
    "unsupported_parameter": UnsupportedParameter,
    "unsupported_value": UnsupportedValue,
    "invalid_parameter_combination": InvalidParameterCombination,
    "token_out_of_vocabulary": TokenOutOfVocabulary,
    "invalid_prompt": InvalidPrompt,
    "invalid_constraint": InvalidConstraint,
    "previous_response_not_found": PreviousResponseNotFound,
    "websocket_connection_limit_reached": WebsocketConnectionLimitReached,
    "invalid_response_state": InvalidResponseState,
    "item_not_found": ItemNotFound,
    "unknown_parameter": UnknownParameter,
    "invalid_api_key": InvalidApiKey,
    "unknown_url": RouteNotFound,
    "model_not_found": ModelNotFound,
    "response_not_found": ResponseNotFound,
    "endpoint_disabled": EndpointDisabled,
    "adapter_not_found": AdapterNotFound,
    "method_not_allowed": WrongMethod,
    "request_timeout": BodyTimeout,
    "request_too_large": RequestTooLarge,
    "unsupported_media_type": WrongMediaType,
    "rate_limit_exceeded": RateLimitExceeded,
    "internal_error": InternalError,
    "server_overloaded": ServerOverloaded,
    "server_loading": ServerLoading,
    "server_draining": ServerDraining,
    "engine_dead": EngineDead,
    "deadline_exceeded": DeadlineExceeded,
}


TYPES: dict[str, dict[type[ApiError], str]] = {
    "Cohere": {
        BadRequest: "invalid_request_error",
        Unauthorized: "invalid_request_error",
        NotFound: "invalid_request_error",
        MethodNotAllowed: "invalid_request_error",
        RequestTimeout: "invalid_request_error",
        PayloadTooLarge: "invalid_request_error",
        UnsupportedMediaType: "invalid_request_error",
        TooManyRequests: "rate_limit_error",
        ServerError: "server_error",
        ServiceUnavailable: "server_error",
        GatewayTimeout: "server_error",
    },
    "Messages": {
        BadRequest: "invalid_request_error",
        Unauthorized: "authentication_error",
        NotFound: "not_found_error",
        MethodNotAllowed: "invalid_request_error",
        RequestTimeout: "timeout_error",
        PayloadTooLarge: "request_too_large",
        UnsupportedMediaType: "invalid_request_error",
        TooManyRequests: "rate_limit_error",
        ServerError: "api_error",
        ServiceUnavailable: "overloaded_error",
        GatewayTimeout: "timeout_error",
    },
}
"""The type of an error in envelopes other than OpenAI's: by the envelope, then by the class."""
