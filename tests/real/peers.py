#!/usr/bin/env python3
"""Loads what Drover wrote with Transformers and PEFT, and compares outputs with the fixtures within 1e-5.

    DROVER_SAVED=DIR build/release/tests/test_parity_saved && python tests/real/peers.py DIR

DIR holds model-NAME (tests/fixtures/models/NAME written again), merged-NAME and adapter-NAME (of
tests/fixtures/peft/NAME). A tensor that is missing or unexpected is a failure as well as a different output.
"""

import json
import pathlib
import sys
import warnings

import torch
import transformers as tf
from peft import PeftModel
from safetensors.numpy import load_file

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
TOLERANCE = {"model": 1e-5, "merged": 1e-5, "adapter": 1e-5}
BASES = {"llama_qv": "llama", "llama_all": "llama", "llama_pattern": "llama", "gpt2_c_attn": "gpt2",
         "gpt2_all": "gpt2", "gpt_neox_rslora": "gpt_neox", "cls_llama": "llama",
         "llama_tables": "llama", "llama_carried": "llama", "llama_saved": "llama", "qwen2_embed": "qwen2",
         "qwen2_head": "qwen2", "qwen2_tied": "qwen2", "qwen2_saved": "qwen2", "qwen2_saved_tied": "qwen2",
         "gpt2_tables": "gpt2", "gpt2_saved": "gpt2", "cls_llama_saved": "llama"}


def load(directory, score):
    cls = tf.AutoModelForSequenceClassification if score else tf.AutoModelForCausalLM
    more = dict(num_labels=1) if score else {}
    model, info = cls.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager",
                                      output_loading_info=True, **more)
    return model.eval(), info


def scores(model, ids):
    """The score of every token, before any pooling."""
    inner = model.base_model.model if isinstance(model, PeftModel) else model
    base = getattr(inner, inner.base_model_prefix)
    return inner.score(base(input_ids=ids, use_cache=False).last_hidden_state)[..., 0]


def outputs(model, expected, score):
    """Logits (scores) of every token, each sequence alone."""
    parts = []
    for x in sequences(expected):
        parts.append(scores(model, x)[0] if score else model(input_ids=x, use_cache=False).logits[0])
    return torch.cat(parts)


def sequences(expected):
    ids, offsets = torch.from_numpy(expected["ids"]).long(), expected["offsets"]
    return [ids[first:end][None] for first, end in zip(offsets[:-1], offsets[1:])]


def pooling(model, expected):
    """The largest difference between the model's own `logits` and the score of the last token, where Drover reads it: of
    every sequence with each id behind it that ends texts, alone, and in one batch when there is a padding id."""
    config = model.config
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    rows = [torch.cat([x, torch.tensor([[end]])], 1) for x in sequences(expected) for end in ends]
    last = torch.cat([scores(model, x)[:, -1] for x in rows])
    found = [torch.cat([model(input_ids=x).logits[:, 0] for x in rows])]
    if config.pad_token_id is not None:
        width = max(x.shape[1] for x in rows)
        batch = torch.full((len(rows), width), config.pad_token_id)
        for row, x in zip(batch, rows):
            row[: x.shape[1]] = x[0]
        mask = torch.tensor([[i < x.shape[1] for i in range(width)] for x in rows]).long()
        found.append(model(input_ids=batch, attention_mask=mask).logits[:, 0])
    return max((x - last).abs().max().item() for x in found)


def check(directory):
    kind, _, name = directory.name.partition("-")
    fixture = name.removesuffix("_alone")  # the same model without a padding id
    expected = load_file(FIXTURES / ("models" if kind == "model" else "peft") / fixture / "expected.safetensors")
    score = "scores" in expected
    problems = []
    if kind == "adapter":
        model, _ = load(FIXTURES / "models" / BASES[name], score)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # PEFT warns of keys that do not fit
            warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
            warnings.filterwarnings("ignore", message=".*'score_shift'.*")  # our key, which PEFT passes over
            warnings.filterwarnings("ignore", message=".*`tie_word_embeddings=True`.*")  # said of the base, whatever is in the file
            model = PeftModel.from_pretrained(model, directory).eval()
    else:
        model, info = load(directory, score)
        problems = [f"{k} {sorted(v)}" for k, v in info.items() if v]
        architecture = json.loads((directory / "config.json").read_text())["architectures"]
        if architecture != [type(model).__name__]:
            problems.append(f"architectures {architecture}")
    with torch.no_grad():
        difference = (outputs(model, expected, score) - torch.from_numpy(
            expected["scores" if score else "logits"])).abs().max().item()
        pooled = pooling(model, expected) if score else 0
    if not difference <= TOLERANCE[kind]:
        problems.append("outputs differ")
    if not pooled <= TOLERANCE[kind]:
        problems.append(f"its own logits are {pooled:.2g} off the score of the last token")
    print(f"{'FAIL' if problems else 'ok  '} {directory.name:28s} {difference:.2g} {'; '.join(problems)}")
    return not problems


def main():
    tf.logging.set_verbosity_error()
    directories = sorted(p for p in pathlib.Path(sys.argv[1]).iterdir() if p.is_dir())
    results = []
    for directory in directories:
        try:
            results.append(check(directory))
        except Exception as problem:  # a directory that a peer refuses is the finding, not the end
            print(f"FAIL {directory.name:28s} {type(problem).__name__}: {problem}")
            results.append(False)
    print(f"{sum(results)} of {len(results)} directories agree")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
