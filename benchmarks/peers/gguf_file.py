"""Write a synthetic checkpoint (the shapes of Llama and Qwen2) as a GGUF file in bfloat16, for llama.cpp.

    python -m benchmarks.peers.gguf_file MODEL_FOLDER OUT.gguf

Needs gguf, torch and safetensors. llama.cpp wants norms and biases in float32, and rotates neighbouring pairs where
checkpoints of Llama rotate the halves of a head.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file

ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}


def halves_to_pairs(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """(heads * 2 * n, in): row i of a head's first half beside row i of its second."""
    first, second = weight.unflatten(0, (heads, 2, -1)).unbind(1)
    return torch.stack((first, second), dim=2).reshape(weight.shape)


def write_dimensions(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def write_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    """Byte-level BPE; ids that the tokenizer does not have are marked unused."""
    stored = json.loads((folder / "tokenizer.json").read_text())
    size, kinds = config["vocab_size"], gguf.TokenType
    texts = [f"[unused {number}]" for number in range(size)]
    types = [kinds.UNUSED] * size
    for text, number in stored["model"]["vocab"].items():
        texts[number], types[number] = text, kinds.NORMAL
    for token in stored["added_tokens"]:
        types[token["id"]] = kinds.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    merges = stored["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)


def write_tensors(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    names = gguf.get_tensor_name_map(ARCHITECTURES[config["model_type"]], config["num_hidden_layers"])
    rotated = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in load_file(folder / "model.safetensors").items():
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if tensor.ndim == 1:
            writer.add_tensor(place, tensor.float().numpy())
            continue
        heads = rotated.get(name.split(".")[-2]) if config["model_type"] == "llama" else None
        weight = tensor if heads is None else halves_to_pairs(tensor, heads)
        raw = weight.contiguous().view(torch.uint8).numpy()
        writer.add_tensor(place, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)


def convert(folder: Path, out: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(out, config["model_type"])
    write_dimensions(writer, config)
    write_tokenizer(writer, folder, config)
    write_tensors(writer, folder, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
