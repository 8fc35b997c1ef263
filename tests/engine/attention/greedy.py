"""A tiny random model decoded greedily through transformers' own classes and one attention backend.

No scheduler and no runner: several prompts of different lengths, one of them cut into chunks, then steps of
decodes. What it gives is compared with transformers' `generate`.
"""

from __future__ import annotations

from itertools import chain

import torch
from attention_cases import Case, steps_of
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from specserve.engine.attention.backend import AttentionBackend, LayerSpec
from specserve.engine.attention.interface import ATTENTION_NAME, PagedContext, attention_context, register

NEW_TOKENS = 8
SHORTFALL = {torch.float32: 0.3, torch.float16: 0.3, torch.bfloat16: 3.0}
"""For `largest_shortfall`: three times what rounding did to the reference backend on four random models. GPUs
compute float32 decodes in TF32, which rounds like float16. A token picked blindly falls short by 14."""
PROMPT_LENGTHS = (61, 7, 130)
CHUNKS = ((61, *[1] * NEW_TOKENS), (7, *[1] * NEW_TOKENS), (100, 30, *[1] * (NEW_TOKENS - 1)))


def tiny_llama(dtype: torch.dtype, device: torch.device) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.3,  # the default of 0.02 makes all logits nearly equal: rounding would choose
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(device, dtype).eval()


def prompts(device: torch.device) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 300, (length,), generator=generator).to(device) for length in PROMPT_LENGTHS]


def generated_by_transformers(model: LlamaForCausalLM) -> list[list[int]]:
    """Each prompt alone, so that nothing is padded."""
    model.set_attn_implementation("eager")
    answers = []
    for prompt in prompts(model.device):
        out = model.generate(prompt[None], max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
        answers.append(out[0, len(prompt) :].tolist())
    return answers


@torch.inference_mode()
def largest_shortfall(model: LlamaForCausalLM, answers: list[list[int]]) -> float:
    """How far below the best logit a chosen token is, at most, in transformers' own float32 forward pass.

    In half precision rounding chooses between nearly equal logits, so equal tokens cannot be asked for.
    """
    exact = tiny_llama(torch.float32, model.device)
    exact.load_state_dict({name: weight.float() for name, weight in model.state_dict().items()})
    exact.set_attn_implementation("eager")
    worst = 0.0
    for prompt, answer in zip(prompts(model.device), answers, strict=True):
        chosen = torch.tensor(answer, device=model.device)
        logits = exact(torch.cat([prompt, chosen])[None]).logits[0, len(prompt) - 1 : -1]
        missing = logits.max(-1).values - logits.gather(1, chosen[:, None])[:, 0]
        worst = max(worst, float(missing.max()))
    return worst


@torch.inference_mode()
def generated_by(backend_class: type[AttentionBackend], model: LlamaForCausalLM) -> list[list[int]]:
    """The same prompts together, over paged blocks, with chunked prefill and mixed steps."""
    config = model.config
    spec = LayerSpec(
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        value_head_size=config.head_dim,
        dtype=model.dtype,
        scale=config.head_dim**-0.5,
    )
    layers = [spec] * config.num_hidden_layers
    case = Case("greedy", CHUNKS)
    backend = backend_class(layers, model.device, case.block_size)
    batches, num_blocks = steps_of(case, model.device)
    context = PagedContext(backend, backend.allocate(num_blocks), {at: at for at in range(len(layers))})
    register()
    model.set_attn_implementation(ATTENTION_NAME)
    tokens = [prompt.tolist() for prompt in prompts(model.device)]
    for batch in batches:
        ids = [tokens[row][first:last] for row, (first, last) in zip(batch.rows, batch.spans, strict=True)]
        positions = [torch.arange(first, last) for first, last in batch.spans]
        backend.plan(batch.metadata)
        with attention_context(context):
            hidden = model.model(
                input_ids=torch.tensor([list(chain.from_iterable(ids))], device=model.device),
                position_ids=torch.cat(positions)[None].to(model.device),
                use_cache=False,
            ).last_hidden_state[0]
        last_rows = torch.tensor([len(row) for row in ids]).cumsum(0) - 1
        chosen = model.lm_head(hidden[last_rows.to(model.device)]).argmax(-1).tolist()
        for row, (_, last), token in zip(batch.rows, batch.spans, chosen, strict=True):
            if last == len(tokens[row]):  # a chunk in the middle of a prompt chooses nothing
                tokens[row].append(token)
    return [answer[length : length + NEW_TOKENS] for answer, length in zip(tokens, PROMPT_LENGTHS, strict=True)]
