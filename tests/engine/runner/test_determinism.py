"""--deterministic: what a request gets does not depend on its company by a bit, or the server says that it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tiny_checkpoints import VOCAB_SIZE, load_runner, write_checkpoint

from specserve.engine.api import GenerationRequest
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.models.same_bits import SameBits
from specserve.engine.native.library import KernelUnavailableError
from specserve.engine.params import SamplingParams
from specserve.engine.prefill_budget import PrefillBudget
from specserve.engine.request import Request
from specserve.engine.runner import determinism
from specserve.engine.runner.determinism import settle_pooling
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.scheduler import Scheduler

BF16, FP32 = torch.bfloat16, torch.float32
WIDE = {"intermediate_size": 4864, "num_hidden_layers": 2}
"""So long sums that oneDNN computes a single row in another order."""
MODELS: dict[str, tuple[str, torch.dtype, str, dict[str, Any]]] = {
    "llama bf16": ("llama", BF16, "none", {}),
    "qwen2 int8": ("qwen2", BF16, "int8", {}),
    "qwen3 int4": ("qwen3", BF16, "int4", {}),
    "llama fp32, wide": ("llama", FP32, "none", WIDE),
    "gpt2 bf16": ("gpt2", BF16, "none", {}),
    "gpt2 fp32": ("gpt2", FP32, "none", {"n_inner": 4099}),
    "gemma2 bf16": ("gemma2", BF16, "none", {}),
    "gemma2 fp32, odd sizes": ("gemma2", FP32, "none", {"intermediate_size": 4099}),
    "gemma2 int8": ("gemma2", BF16, "int8", {}),
    "mixtral fp32": ("mixtral", FP32, "none", {}),
    "gpt_oss fp32": ("gpt_oss", FP32, "none", {}),
}
NUM_BLOCKS = 60
STEMS = [[3 + place * place * stride % 190 for place in range(80)] for stride in (3, 5)]


@pytest.fixture(scope="module", params=MODELS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelRunner:
    name, dtype, quantization, changes = MODELS[request.param]
    folder = write_checkpoint(name, tmp_path_factory.mktemp(name), dtype, **changes)
    try:
        found = load_runner(folder, "cpu", quantization=quantization, deterministic=True, num_blocks=NUM_BLOCKS)
    except (UnsupportedModelError, KernelUnavailableError) as error:
        pytest.skip(str(error))  # a processor or a machine without a compiler: refused, as it should be
    assert found.info.is_deterministic
    return found


@dataclass(frozen=True)
class Wanted:
    """One request: `length` tokens of a stem, `siblings` of it that share its prompt, at the step `arrival`."""

    stem: int
    length: int
    max_tokens: int = 9
    seed: int | None = None
    prompt_logprobs: int | None = None
    siblings: int = 1
    arrival: int = 0

    def requests(self, name: str) -> list[GenerationRequest]:
        params = SamplingParams(
            max_tokens=self.max_tokens,
            temperature=0.0 if self.seed is None else 0.9,
            top_p=1.0 if self.seed is None else 0.95,
            seed=self.seed,
            logprobs=3,
            prompt_logprobs=self.prompt_logprobs,
            ignore_eos=True,
        )
        prompt = STEMS[self.stem][: self.length]
        return [
            GenerationRequest(
                request_id=f"{name}-{index}",
                prompt_token_ids=prompt,
                params=params,
                parent_id=name if self.siblings > 1 else None,
                index=index,
            )
            for index in range(self.siblings)
        ]


@dataclass(frozen=True)
class Conditions:
    """What a server is like: tokens of a step, blocks, sequences, whether prefixes are kept, what its clock says."""

    chunk: int = 512
    num_blocks: int = NUM_BLOCKS
    prefix_caching: bool = False
    seconds: float | None = None


@dataclass
class Served:
    """By request: (token ids, logprobs of the answer, logprobs of the prompt), and what happened on the way."""

    answers: dict[str, tuple[list[int], list[Any], list[Any]]]
    num_preemptions: int
    num_cached_tokens: int


def serve(runner: ModelRunner, wanted: Sequence[Wanted], conditions: Conditions) -> Served:
    """Through the real scheduler and the real model; the first of `wanted` is called `main`."""
    budget = PrefillBudget(2.0)
    scheduler = Scheduler(
        KVCacheManager(conditions.num_blocks, runner.info.block_size, conditions.prefix_caching),
        max_num_seqs=6,
        max_num_batched_tokens=conditions.chunk,
        max_model_len=128,
        prefill_budget=None if conditions.seconds is None else budget,
    )
    names = ["main", *(f"mate{number}" for number in range(1, len(wanted)))]
    pending = sorted(zip(names, wanted, strict=True), key=lambda pair: -pair[1].arrival)
    served = Served({}, 0, 0)
    step = 0
    while pending or scheduler.has_requests:
        while pending and pending[-1][1].arrival <= step:
            name, one = pending.pop()
            made = [Request.of(request) for request in one.requests(name)]
            served.answers |= {request.request_id: ([], [], []) for request in made}
            assert scheduler.add(made) == []
        step += 1
        batch = scheduler.schedule()
        if not batch:
            continue
        for gained in scheduler.update(batch, runner.execute(batch)):
            assert gained.error is None
            tokens, logprobs, _ = served.answers[gained.request_id]
            tokens += gained.token_ids
            logprobs += gained.logprobs or ()
            if gained.prompt_logprobs is not None:
                for request_id in (gained.request_id, *gained.prompt_logprobs.siblings):
                    served.answers[request_id][2].extend(gained.prompt_logprobs.unpack())
        if conditions.seconds is not None:
            budget.took(batch.num_tokens, conditions.seconds * batch.num_tokens)
    stats = scheduler.stats()
    served.num_preemptions, served.num_cached_tokens = stats.num_preemptions, stats.num_cached_tokens
    return served


@cache
def alone(runner: ModelRunner, wanted: Wanted) -> tuple[list[int], list[Any], list[Any]]:
    """The answer where nothing else runs: the whole prompt in one step, on blocks that nobody has used."""
    return serve(runner, [replace(wanted, siblings=1, arrival=0)], Conditions()).answers["main-0"]


REQUESTS = st.builds(
    Wanted,
    stem=st.integers(0, 1),
    length=st.integers(1, 70),
    max_tokens=st.sampled_from([1, 9, 20]),
    siblings=st.integers(1, 3),
    arrival=st.integers(0, 25),
)
MAIN = st.builds(
    Wanted,
    stem=st.integers(0, 1),
    length=st.sampled_from([1, 16, 17, 37, 64]),
    seed=st.sampled_from([None, None, 7]),
    prompt_logprobs=st.sampled_from([None, None, 2]),
    siblings=st.integers(1, 3),
    arrival=st.integers(0, 25),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    main=MAIN,
    mates=st.lists(REQUESTS, max_size=4),
    chunk=st.sampled_from([6, 11, 32, 512]),
    num_blocks=st.sampled_from([9, 14, NUM_BLOCKS]),
    prefix_caching=st.booleans(),
    seconds=st.sampled_from([None, 0.001]),
)
def test_a_request_gets_the_same_bits_in_any_company(
    runner: ModelRunner,
    main: Wanted,
    mates: list[Wanted],
    chunk: int,
    num_blocks: int,
    prefix_caching: bool,
    seconds: float | None,
) -> None:
    """Batch mates, chunk size, preemption, prefix hits and siblings, all at once: tokens and logprobs."""
    served = serve(runner, [main, *mates], Conditions(chunk, num_blocks, prefix_caching, seconds))
    event(f"preempted: {served.num_preemptions > 0}")
    event(f"prefix hits: {served.num_cached_tokens > 0}")
    num_alike = main.siblings if main.seed is None else 1  # siblings draw numbers of their own
    for index in range(num_alike):
        assert served.answers[f"main-{index}"] == alone(runner, main)


def test_what_the_property_varies_does_happen(runner: ModelRunner) -> None:
    """One history with all five of them, and equal bits for everyone."""
    main = Wanted(0, 40, max_tokens=40, siblings=3, arrival=2)
    mates = [Wanted(0, 50, max_tokens=40), Wanted(1, 17, max_tokens=60, arrival=1), Wanted(0, 48, arrival=9)]
    served = serve(runner, [main, *mates], Conditions(chunk=11, num_blocks=11, prefix_caching=True))
    assert served.num_preemptions > 0
    assert served.num_cached_tokens > 0
    for name, wanted in zip(["main", "mate1", "mate2", "mate3"], [main, *mates], strict=True):
        for index in range(wanted.siblings):
            assert served.answers[f"{name}-{index}"] == alone(runner, wanted)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_functions_of_modules_give_each_row_the_same_bits(threads: int, dtype: torch.dtype) -> None:
    """Of sizes that torch cuts into vectors and threads in every way."""
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(40, 2304, generator=generator) / 48).to(dtype)
    functions: dict[str, Any] = {
        "silu": F.silu,
        "nn.SiLU": torch.nn.SiLU(),
        "gelu": F.gelu,
        "gelu with tanh": lambda x: F.gelu(x, approximate="tanh"),
        "sigmoid": torch.sigmoid,
        "method": lambda x: x.sigmoid(),
        "tanh": torch.tanh,
        "softplus": F.softplus,
        "rsqrt": lambda x: torch.rsqrt(x.abs() + 0.01),
        "linear": lambda x: F.linear(x[:, :2304], weight[:, : x.shape[1]]),
        "matmul": lambda x: x[:, :2304] @ weight[:, : x.shape[1]].T,
        "bmm": lambda x: torch.bmm(x[None, :, :2304], weight[:, : x.shape[1]].T[None])[0],
    }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for width in (1, 67, 2304, 20_011):
            x = (4 * torch.randn(23, width, generator=generator)).to(dtype)
            for name, function in functions.items():
                with SameBits():
                    rows = torch.cat([function(x[row : row + 1]) for row in range(23)])
                    for size in (2, 5, 23):
                        found = torch.cat([function(piece) for piece in x.split(size)])
                        assert torch.equal(found, rows), (name, width, size)
                plain = function(x)
                assert rows.dtype == plain.dtype
                torch.testing.assert_close(rows, plain, rtol=2e-2, atol=2e-2)
    finally:
        torch.set_num_threads(before)


def test_what_a_model_cannot_keep_is_refused_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint("gpt2", tmp_path, FP32)
    with pytest.raises(UnsupportedModelError, match="this is reference"):
        load_runner(folder, "reference", deterministic=True)
    monkeypatch.setattr("specserve.engine.runner.model_runner.first_difference", lambda *_: "3 rows differ")
    with pytest.raises(UnsupportedModelError, match="3 rows differ"):
        load_runner(folder, "cpu", deterministic=True)


def test_the_trial_finds_a_model_whose_rows_depend_on_each_other(tmp_path: Path) -> None:
    """Here through logits that are shifted by how many rows there are."""
    runner = load_runner(write_checkpoint("gpt2", tmp_path, FP32), "cpu", deterministic=False)
    spoiled = lambda batch: runner.logits(batch) + 1e-6 * (batch.num_tokens > 30)  # noqa: E731
    found = determinism.first_difference(spoiled, VOCAB_SIZE, runner.info.block_size, NUM_BLOCKS)
    assert found is not None
    assert "rows of logits differ when computed in chunks" in found


def test_the_trial_fits_into_the_smallest_cache(tmp_path: Path) -> None:
    folder = write_checkpoint("gpt2", tmp_path, BF16)
    for num_blocks in (9, 10):
        runner = load_runner(folder, "cpu", deterministic=True, num_blocks=num_blocks)
        assert runner.info.is_deterministic


def test_the_banner_says_whether_it_is_on(tmp_path: Path) -> None:
    folder = write_checkpoint("gpt2", tmp_path, BF16)
    for asked, words in ((True, "the same bits"), (False, "off, as asked for"), (None, "")):
        runner = load_runner(folder, "cpu", deterministic=asked)
        [note] = [note for note in runner.info.notes if note.startswith("deterministic: ")]
        assert words in note
        assert runner.info.is_deterministic == ("off" not in note)


def test_texts_to_embed_are_computed_one_at_a_time_on_cpus_and_refused_elsewhere() -> None:
    assert not settle_pooling(None, torch.device("cpu")).is_on
    assert settle_pooling(True, torch.device("cpu")).is_on
    with pytest.raises(UnsupportedModelError, match="defined on CPUs"):
        settle_pooling(True, torch.device("cuda"))
