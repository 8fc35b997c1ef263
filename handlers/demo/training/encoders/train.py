"""Train the demo embedder and the demo reranker: `python -m specserve.handlers.demo.training.encoders.train --out DIR`.

Fixed seeds and numbers of steps give the same text in the same order; the weights then agree as far as the
machine's arithmetic does. Leaves DIR/embedder and DIR/reranker.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertModel

from specserve.handlers.demo.training.encoders.embedder import train_embedder
from specserve.handlers.demo.training.encoders.models import save_embedder, save_reranker
from specserve.handlers.demo.training.encoders.pieces import make_tokenizer
from specserve.handlers.demo.training.encoders.progress import Progress
from specserve.handlers.demo.training.encoders.recipe import EMBEDDER, RERANKER, WORDS, Course, Shape
from specserve.handlers.demo.training.encoders.reranker import train_reranker


def train(
    shape: Shape,
    courses: tuple[Course, Course, Course],
    out: Path,
    num_examples: int = 40_000,
    skip_embedder: bool = False,
) -> None:
    """The reranker starts from the token vectors of the embedder, as they were written to `out/embedder`."""
    log = out / "training.log"
    words, whole, pairs = courses
    if not skip_embedder:
        tokenizer = make_tokenizer(shape, num_examples)
        bert = train_embedder(shape, words, whole, tokenizer, log)
        save_embedder(bert, tokenizer, out / "embedder")
    tokenizer = AutoTokenizer.from_pretrained(out / "embedder")
    bert = BertModel.from_pretrained(out / "embedder", add_pooling_layer=False, dtype=torch.float32)
    model = train_reranker(bert, shape, pairs, tokenizer, Progress(log, "reranker"))
    save_reranker(model, tokenizer, out / "reranker")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--skip-embedder", action="store_true", help="the embedder is in DIR/embedder already")
    chosen = parser.parse_args()
    train(Shape(), (WORDS, EMBEDDER, RERANKER), chosen.out, skip_embedder=chosen.skip_embedder)


if __name__ == "__main__":
    main()
