"""Train the demo model from nothing: `python -m specserve.handlers.demo.training.train --out DIR`.

Fixed seeds and numbers of steps give the same text in the same order; the weights then agree as far as the
machine's arithmetic does. Runs on a CPU, and on a GPU with `--device cuda`.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from specserve.handlers.demo.training.check import accuracy_by_topic
from specserve.handlers.demo.training.copying_layers import with_copying_layers
from specserve.handlers.demo.training.recipe import FIRST, SECOND, Shape, Stage
from specserve.handlers.demo.training.tokens import CONTEXT, SPECIAL, Sample, batches, make_tokenizer

STOPS = ["<|im_end|>", "<|endoftext|>"]
LOG_EVERY_S = 30


def make_model(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    stops = tokenizer.convert_tokens_to_ids(STOPS)
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=stops[0],
        pad_token_id=stops[1],
        initializer_range=shape.hidden**-0.5 / 2,
    )
    return Qwen3ForCausalLM(config)


def tensors(batch: list[Sample], device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Ids [N, T] and the mask [N, T] of positions whose next token is learnt; never padding."""
    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in batch], device=device)
    learnt = [mask[1:] + [False] * (width - len(mask) + 1) for _, mask in batch]
    return ids, torch.tensor(learnt, device=device)


def drills(vocabulary: int, num_tokens: int, seed: int) -> Iterator[list[Sample]]:
    """Random tokens in short patterns that repeat: nothing but copying can predict them."""
    rng = random.Random(seed)
    width = 48
    while True:
        batch: list[Sample] = []
        for _ in range(num_tokens // width):
            pattern = [rng.randrange(len(SPECIAL), vocabulary) for _ in range(rng.randint(3, 20))]
            ids = [pattern[i % len(pattern)] for i in range(width)]
            batch.append((ids, [i >= len(pattern) for i in range(width)]))
        yield batch


def optimizers(model: Qwen3ForCausalLM, stage: Stage) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices, AdamW for embeddings and norms, each with its full rate."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in named if p.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(matrices, lr=stage.rate, weight_decay=stage.weight_decay, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(rest, lr=stage.vector_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [(muon, stage.rate), (adamw, stage.vector_rate)]


def loss_of(model: Qwen3ForCausalLM, batch: list[Sample], device: str) -> Tensor:
    """Mean loss over the learnt positions; logits are computed only there."""
    ids, learnt = tensors(batch, device)
    with torch.autocast(device, torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[learnt])
    return functional.cross_entropy(logits.float(), ids.roll(-1, 1)[learnt])


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the checkpoint in bfloat16, with greedy decoding as the default."""
    kept = copy.deepcopy(model).to(device="cpu", dtype=torch.bfloat16)
    stops = tokenizer.convert_tokens_to_ids(STOPS)
    kept.generation_config = GenerationConfig(eos_token_id=stops, pad_token_id=stops[1], do_sample=False)
    kept.save_pretrained(out)
    tokenizer.save_pretrained(out)


def run_stage(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    stage: Stage,
    out: Path,
    device: str,
    snapshot_every: int,
    check_count: int,
) -> None:
    """Train in place; the checkpoint, overwritten by each snapshot, and a log are left in `out`."""
    parts = optimizers(model.to(device).train(), stage)
    text = batches(tokenizer, stage.batch_tokens, stage.seed + 100)
    copying = drills(model.config.vocab_size, stage.batch_tokens, stage.seed)
    out.mkdir(parents=True, exist_ok=True)
    log = (out / "training.log").open("a", encoding="utf-8")

    def note(line: str) -> None:
        print(line, flush=True)
        print(line, file=log, flush=True)

    note(json.dumps({"stage": dataclasses.asdict(stage), "device": device}))
    note(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    start = logged = time.monotonic()
    num_tokens = 0
    losses: list[float] = []
    drill_losses: list[float] = []
    for step in range(stage.steps):
        for optimizer, rate in parts:
            for group in optimizer.param_groups:
                group["lr"] = rate * stage.rate_factor(step)
        is_drill = stage.is_drill(step)
        batch = next(copying if is_drill else text)
        loss = loss_of(model, batch, device)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in parts:
            optimizer.step()
            optimizer.zero_grad()
        (drill_losses if is_drill else losses).append(loss.item())
        num_tokens += sum(len(ids) for ids, _ in batch)
        if (now := time.monotonic()) - logged > LOG_EVERY_S and losses:
            logged = now
            speed = num_tokens / (now - start)
            drill = f", of drills {mean(drill_losses):.3f}" if drill_losses else ""
            so_far = f"step {step + 1} {now - start:.0f} s {num_tokens / 1e6:.2f} M tokens {speed:.0f} tokens/s"
            note(f"{so_far} loss {mean(losses):.4f}{drill}")
            losses, drill_losses = [], []
        if (step + 1) % snapshot_every == 0 and step + 1 < stage.steps:
            save(model, tokenizer, out)
            note(accuracy_line(model, tokenizer, device, check_count))
    save(model, tokenizer, out)
    note(accuracy_line(model, tokenizer, device, check_count))
    note(f"{stage.steps} steps, {num_tokens / 1e6:.2f} M tokens, {time.monotonic() - start:.0f} s")
    log.close()


def train(
    shape: Shape,
    first: Stage,
    second: Stage,
    out: Path,
    device: str = "cpu",
    snapshot_every: int = 1000,
    check_count: int = 24,
    skip_first: bool = False,
) -> None:
    """Both stages: the first is left in `out/first_stage`; the second starts from what was written there."""
    early = out / "first_stage"
    if not skip_first:
        torch.manual_seed(first.seed)
        tokenizer = make_tokenizer(shape.vocabulary)
        run_stage(make_model(shape, tokenizer), tokenizer, first, early, device, snapshot_every, check_count)
    torch.manual_seed(second.seed)
    kept = PreTrainedTokenizerFast.from_pretrained(early)
    grown = with_copying_layers(Qwen3ForCausalLM.from_pretrained(early, dtype=torch.float32))
    run_stage(grown, kept, second, out, device, snapshot_every, check_count)


def accuracy_line(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, device: str, count: int) -> str:
    """Exact match by topic on a few questions each, as seen/kept out in percent."""
    model.eval()
    seen = accuracy_by_topic(model, tokenizer, kept_out=False, count=count, seed=1, device=device)
    kept = accuracy_by_topic(model, tokenizer, kept_out=True, count=count, seed=1, device=device)
    model.train()
    cells = [f"{topic} {100 * seen[topic]:.0f}/{100 * kept[topic]:.0f}" for topic in seen]
    overall = [100 * sum(cell.values()) / len(cell) for cell in (seen, kept)]
    return f"exact match {overall[0]:.1f}/{overall[1]:.1f}: " + ", ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--snapshot-every", type=int, default=1000, help="steps between snapshots with a short check")
    parser.add_argument("--skip-first", action="store_true", help="the first stage is in DIR/first_stage already")
    chosen = parser.parse_args()
    train(Shape(), FIRST, SECOND, chosen.out, chosen.device, chosen.snapshot_every, skip_first=chosen.skip_first)


if __name__ == "__main__":
    main()
