"""The error tree of the engine: it raises meaning, handlers decide the HTTP status.

Every message names the value, the limit and the way out.
"""


class EngineError(Exception):
    """Anything the engine refuses to do or could not do."""


class RequestError(EngineError):
    """The caller can fix it. `param` names the request field at fault, when one is."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidParameterError(RequestError):
    """A parameter is outside its range, or does not go together with another."""


class TokenOutOfVocabularyError(InvalidParameterError):
    """A token id is not one of the model's."""


class PromptTooLongError(RequestError):
    """The prompt leaves no room for even one new token, or is itself too long when none is wanted.

    Clients that shorten conversations know the case by the words of OpenAI: this model's maximum context length is.
    """

    def __init__(self, num_tokens: int, limit: int, *, param: str | None = None, is_answered: bool = True) -> None:
        allowed = f"{limit - 1} with one token left for the answer" if is_answered else f"{limit}"
        super().__init__(
            f"prompt has {num_tokens} tokens, the limit is {allowed}: this model's maximum context length is {limit} "
            "tokens (max_model_len); shorten it or raise --max-model-len",
            param=param,
        )
        self.num_tokens = num_tokens
        self.limit = limit


class InputTooLongError(RequestError):
    """A text to embed or classify has more tokens than the model takes."""

    def __init__(self, num_tokens: int, limit: int, *, param: str | None = "input") -> None:
        super().__init__(
            f"input has {num_tokens} tokens, the limit is {limit} (max_model_len); "
            "shorten it, or have it cut with truncate_prompt_tokens",
            param=param,
        )
        self.num_tokens = num_tokens
        self.limit = limit


class UnsupportedFeatureError(RequestError):
    """The request is well-formed, but asks for something this engine or model cannot do."""


class GrammarError(RequestError):
    """The output cannot be constrained as asked. `pointer` leads to the place in a JSON schema or structural tag.

    `is_unsupported` tells a feature that is not offered from a constraint that is wrong.
    """

    def __init__(
        self, message: str, *, pointer: str = "", is_unsupported: bool = False, param: str | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.pointer = pointer
        self.is_unsupported = is_unsupported


class UnknownModelError(RequestError):
    """No model of that name is served."""


class OverloadedError(EngineError):
    """The queue is full; `retry_after_s` is a hint in seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineDeadError(EngineError):
    """The engine process stopped or hangs; nothing more will come from it."""


class StartupError(EngineError):
    """The server cannot start. `cause` and `remedy` are one line each; `exit_code` is documented in the README."""

    exit_code = 2

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}\n{remedy}")
        self.cause = cause
        self.remedy = remedy


class ModelLoadError(StartupError):
    """The model folder is missing, incomplete or damaged."""

    exit_code = 3


class UnsupportedModelError(StartupError):
    """The architecture, data type or attention form has no implementation here."""

    exit_code = 3


class InsufficientMemoryError(StartupError):
    """Weights and the smallest useful KV cache do not fit."""

    exit_code = 5
