"""`tokenizer add` beside Transformers: what add.sh runs.   add.py PROGRAM

Models of Transformers' making, tied and untied, in shards, with a biased head, with spare rows, with a tokenizer.model: after the program has added tokens,
Transformers finds the same ids in old text, the new ids for the new tokens, the same logits for old tokens, and new rows that are the mean.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from transformers import (AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PhiConfig,
                          PhiForCausalLM)

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "tokenizer"
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
NEW = ["<|new_a|>", "<|new_b|>", "wonderword"]


def llama(vocab, tied):
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab, tie_word_embeddings=tied, num_key_value_heads=2, **SMALL))


def cases():
    yield "untied", llama(803, False), "qwen2", [], 806
    yield "tied, in shards, bf16", llama(803, True).bfloat16(), "qwen2", ["--multiple", "64"], 832
    yield "tokenizer.model", llama(640, False), "llama.model", [], 643
    yield "spare rows", llama(832, False), "qwen2", [], 832
    yield "biased head", PhiForCausalLM(PhiConfig(vocab_size=800, bos_token_id=0, eos_token_id=0, **SMALL)), "gpt2", ["--multiple", "16"], 816
    yield "gpt2", GPT2LMHeadModel(GPT2Config(vocab_size=800, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0,
                                             eos_token_id=0)), "gpt2", [], 803


def save(model, tokenizer, folder):
    model.save_pretrained(folder, max_shard_size="60KB" if model.dtype == torch.bfloat16 else "5GB")
    if tokenizer.endswith(".model"):
        shutil.copy(FIXTURES / "sources" / tokenizer, os.path.join(folder, "tokenizer.model"))
        config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}
    else:
        shutil.copy(FIXTURES / tokenizer / "tokenizer.json", folder)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(config))


def same(what, found, expected=0.0, tolerance=0.0):
    if abs(found - expected) > tolerance:
        raise SystemExit(f"{what}: {found}, expected {expected}")


def check(before, after, rows, tolerance):
    old, new = AutoTokenizer.from_pretrained(before), AutoTokenizer.from_pretrained(after)
    m, n = (AutoModelForCausalLM.from_pretrained(folder).float() for folder in (before, after))
    first = len(old)
    assert new.convert_tokens_to_ids(NEW) == [first, first + 1, first + 2], new.convert_tokens_to_ids(NEW)
    for text in ["Hello  world 123\n\u65e9\u4e0a x", "a <|im_start|> b </s>"]:
        assert old(text).input_ids == new(text).input_ids, text
    assert new("x<|new_b|>y").input_ids.count(first + 1) == 1 and first + 2 in new("x wonderwords").input_ids
    assert new.decode([first, first + 2], skip_special_tokens=True).strip() == "wonderword"
    ids = torch.tensor([old("Hello world, this is a test").input_ids])
    a, b = m(ids).logits, n(ids).logits
    assert b.shape[-1] == n.config.vocab_size == rows, b.shape
    count = min(first, m.config.vocab_size)
    same("logits", (a[..., :count] - b[..., :count]).abs().max().item())
    pairs = [(m.get_input_embeddings().weight, n.get_input_embeddings().weight),
             (m.get_output_embeddings().weight, n.get_output_embeddings().weight)]
    if m.get_output_embeddings().bias is not None:
        pairs.append((m.get_output_embeddings().bias, n.get_output_embeddings().bias))
    for was, now in pairs:
        same("old rows", (was[:count] - now[:count]).abs().max().item())
        same("new rows", (now[first:first + 3] - was[:count].mean(0)).abs().max().item(), tolerance=tolerance)


def main(program):
    for name, model, tokenizer, options, rows in cases():
        with tempfile.TemporaryDirectory() as folder:
            before, after = os.path.join(folder, "before"), os.path.join(folder, "after")
            save(model, tokenizer, before)
            subprocess.run([program, "add", before, "--out", after, "--special", ",".join(NEW[:2]), "--token", NEW[2], *options],
                           check=True, stdout=subprocess.DEVNULL)
            check(before, after, rows, 1e-4 if model.dtype == torch.bfloat16 else 1e-7)
        print(f"ok: {name}")


if __name__ == "__main__":
    main(sys.argv[1])
