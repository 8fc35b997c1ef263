"""Who gets drafts, how long, and what a request whose drafts fail has to wait."""

from __future__ import annotations

from specserve.engine.api import GenerationRequest
from specserve.engine.config import SpeculativeConfig
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.speculative.drafter import FIRST_REST, Drafter

REPEATING = [1, 2, 3, 4] * 4


def drafter(num_tokens: int = 4, max_rows: int = 16) -> Drafter:
    return Drafter(SpeculativeConfig(num_speculative_tokens=num_tokens), max_rows)


def decoding(name: str, token_ids: list[int], max_tokens: int = 1000) -> Request:
    request = Request.of(
        GenerationRequest(request_id=name, prompt_token_ids=token_ids, params=SamplingParams(max_tokens=max_tokens))
    )
    request.max_num_tokens = len(token_ids) + max_tokens
    return request


def test_a_repetition_is_drafted_in_full() -> None:
    request = decoding("a", REPEATING)
    assert drafter().draft([request], 100) == {"a": [1, 2, 3, 4]}
    assert drafter(2).draft([request], 100) == {"a": [1, 2]}


def test_a_draft_leaves_room_for_the_token_behind_it() -> None:
    """One more token is chosen in any case; what could not be part of the answer is not computed."""
    assert drafter().draft([decoding("a", REPEATING, max_tokens=3)], 100) == {"a": [1, 2]}
    assert drafter().draft([decoding("a", REPEATING, max_tokens=1)], 100) == {}


def test_drafts_stay_within_the_tokens_and_the_rows_given() -> None:
    requests = [decoding(name, REPEATING) for name in "abc"]
    assert drafter().draft(requests, 6) == {"a": [1, 2, 3, 4], "b": [1, 2]}
    assert drafter(max_rows=5).draft(requests, 100) == {"a": [1, 2]}
    assert drafter(max_rows=3).draft(requests, 100) == {}
    assert not drafter(max_rows=3).may_draft(3)


def test_those_whose_drafts_were_right_come_first() -> None:
    guesses, (wrong, right) = drafter(), (decoding("wrong", REPEATING), decoding("right", REPEATING))
    guesses.learn(wrong, 4, 0)
    guesses.learn(right, 4, 4)
    assert list(guesses.draft([wrong, right], 4)) == ["right"]


def test_drafts_get_shorter_where_they_fail_and_grow_again() -> None:
    guesses, request = drafter(8), decoding("a", REPEATING)
    lengths = []
    for accepted in [0] * 6 + [1.0] * 10:
        lengths.append(len(guesses.draft([request], 100)["a"]))
        guesses.learn(request, lengths[-1], int(lengths[-1] * accepted))
    assert lengths[0] == lengths[-1] == 8
    assert min(lengths) < 5
    assert lengths[:7] == sorted(lengths[:7], reverse=True)


def test_a_request_whose_drafts_fail_rests_twice_as_long_each_time() -> None:
    guesses, request = drafter(), decoding("a", REPEATING)
    rests = []
    while len(rests) < 3:
        start = request.num_tokens
        while not (draft := guesses.draft([request], 100)):
            request.token_ids.append(request.token_ids[-4])
        rests += [request.num_tokens - start] if request.num_tokens > start else []
        guesses.learn(request, len(draft["a"]), 0)
    assert rests == [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST]


def test_embeddings_are_not_guessed() -> None:
    request = decoding("a", [-1] * 6)
    request.prompt_embeds = b""
    assert drafter().draft([request], 100) == {}
    request.token_ids += [7, 8, 7, 8, 7]
    assert drafter().draft([request], 100) == {"a": [8, 7, 8, 7]}


def test_what_is_remembered_of_a_request_ends_with_it() -> None:
    guesses, request = drafter(), decoding("a", REPEATING)
    guesses.draft([request], 100)
    guesses.forget(request)
    assert not guesses._records
