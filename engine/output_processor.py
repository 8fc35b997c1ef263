"""From the engine's progress to what callers get: text, stop strings, usage. Lives in the API process; no
tensors.
"""

from __future__ import annotations

from specserve.engine.api import FinishReason, GenerationOutput, GenerationRequest, Tokenizer, TokenLogprobs
from specserve.engine.batch import PackedLogprobs, RequestProgress
from specserve.engine.detokenizer import Detokenizer, StopChecker
from specserve.engine.errors import EngineError, GrammarError, InvalidParameterError


class _RequestState:
    """One request between `add` and its last output."""

    __slots__ = ("detokenizer", "num_tokens", "prompt_logprobs", "request", "stop_checker")

    def __init__(self, request: GenerationRequest, tokenizer: Tokenizer) -> None:
        params = request.params
        self.request = request
        self.detokenizer = Detokenizer(
            tokenizer,
            skip_special_tokens=params.skip_special_tokens,
            after=request.prompt_token_ids if request.continues_prompt else (),
            # A grammar decides about every space, also about one at the beginning.
            strips_spaces=params.grammar is None,
        )
        self.stop_checker = StopChecker(params.stop, include_in_output=params.include_stop_str_in_output)
        self.num_tokens = 0
        # Those that have arrived; None when there are none to wait for, or no more.
        self.prompt_logprobs: list[TokenLogprobs | None] | None = [None] if params.prompt_logprobs is not None else None

    def take_prompt_logprobs(self) -> tuple[TokenLogprobs | None, ...] | None:
        """For the first output; later ones have none."""
        taken, self.prompt_logprobs = self.prompt_logprobs, None
        return None if taken is None else tuple(taken)


class OutputProcessor:
    """Turns each `RequestProgress` into a `GenerationOutput`. A request leaves with its last output."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._states: dict[str, _RequestState] = {}

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._states

    def add(self, request: GenerationRequest) -> None:
        self._states[request.request_id] = _RequestState(request, self._tokenizer)

    def remove(self, request_id: str) -> None:
        """Forget a request whose caller has left; progress that is under way is then ignored."""
        self._states.pop(request_id, None)

    def process(self, progress: RequestProgress) -> tuple[GenerationOutput, bool] | None:
        """The output, and whether the engine must be told to abort because a stop string ended the request.

        None for a request that is not known (any more): it ended by a stop string, or its caller left. None also
        for logprobs of the prompt alone: they are kept until the first output. Tokens behind the one that
        completed a stop string are dropped, with their logprobs. A token that the engine stopped at counts, but
        its text is shown only with `include_stop_str_in_output`.

        Raises EngineError, and forgets the request, if it failed in the engine; InvalidParameterError if that is
        due to embeddings that the caller made, GrammarError if to the constraint.
        """
        if progress.prompt_logprobs is not None:
            self._keep_prompt_logprobs(progress.request_id, progress.prompt_logprobs)
        state = self._states.get(progress.request_id)
        if state is None:
            return None
        if progress.error is not None:
            self.remove(progress.request_id)
            if state.request.prompt_embeds is not None:
                raise InvalidParameterError(f"{progress.error}; check prompt_embeds", param="prompt_embeds")
            grammar = state.request.params.grammar
            if progress.is_refusal and grammar is not None:
                raise GrammarError(progress.error, param=grammar.param)
            raise EngineError(progress.error)
        if not progress.token_ids and progress.finish_reason is None:
            return None
        text, num_taken, stop = self._append(state, progress)
        finish_reason = progress.finish_reason if stop is None else FinishReason.STOP
        if finish_reason is not None:
            self.remove(progress.request_id)
        output = GenerationOutput(
            request_id=progress.request_id,
            index=state.request.index,
            text=text,
            token_ids=tuple(progress.token_ids[:num_taken]),
            logprobs=None if progress.logprobs is None else tuple(progress.logprobs[:num_taken]),
            finish_reason=finish_reason,
            stop_reason=progress.stop_reason if stop is None else stop,
            num_prompt_tokens=len(state.request.prompt_token_ids),
            num_cached_tokens=progress.num_cached_tokens,
            prompt_logprobs=state.take_prompt_logprobs(),
        )
        return output, stop is not None and progress.finish_reason is None

    def _keep_prompt_logprobs(self, request_id: str, packed: PackedLogprobs) -> None:
        """Siblings take them too, also when the one that computed them has left."""
        states = [self._states.get(taker) for taker in (request_id, *packed.siblings)]
        if any(states):
            unpacked = packed.unpack()
            for state in states:
                if state is not None and state.prompt_logprobs is not None:
                    state.prompt_logprobs += unpacked

    def _append(self, state: _RequestState, progress: RequestProgress) -> tuple[str, int, str | None]:
        """New text, how many of the tokens count, and the stop string if one is complete."""
        params = state.request.params
        is_hidden = (
            progress.finish_reason is FinishReason.STOP
            and not progress.shows_last
            and not params.include_stop_str_in_output
        )
        num_shown = len(progress.token_ids) - is_hidden
        parts: list[str] = []
        for num_taken, token_id in enumerate(progress.token_ids[:num_shown], start=1):
            state.num_tokens += 1
            checked = state.stop_checker.append(
                state.detokenizer.append(token_id), may_stop=state.num_tokens > params.min_tokens
            )
            parts.append(checked.text)
            if checked.stop is not None:
                return "".join(parts), num_taken, checked.stop
        stop = None
        if progress.finish_reason is not None:
            checked = state.stop_checker.append(
                state.detokenizer.flush(), may_stop=state.num_tokens > params.min_tokens
            )
            parts.append(checked.text)
            stop = checked.stop
            if stop is None:
                parts.append(state.stop_checker.flush())
        return "".join(parts), len(progress.token_ids), stop
