#!/usr/bin/env python3
"""What Transformers computes from a GGUF file, as JSON like that of reference.py, for compare.py.

    python reference_gguf.py FILE.gguf OUT.json [--prompt TEXT ...] [--tokens N]

Transformers reads the same file (gguf_file=...), so both sides have the same dequantised weights; eager attention, greedy decoding,
log-probabilities in fp32 and in fp64. Ids are those of llama.cpp, without a chat template. Needs torch, transformers, gguf and
llama-cpp-python.
"""

import argparse
import json
import pathlib

import llama_cpp
import torch
import transformers

from reference import logprobs

PROMPTS = ["The capital of France is", "Once upon a time there was a", "Water boils at a temperature of"]


def reference(model, exact, vocabulary, prompt, count):
    ids = vocabulary.tokenize(prompt.encode(), add_bos=True, special=True)
    both = list(ids)
    with torch.no_grad():
        for _ in range(count):
            both.append(int(model(torch.tensor([both])).logits[0, -1].argmax()))
    answer = both[len(ids):]
    return {"prompt": prompt, "ids": ids, "answer_ids": answer,
            "answer": vocabulary.detokenize(answer).decode(errors="replace"),
            "logprobs": logprobs(model, both), "logprobs_f64": logprobs(exact, both)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("out")
    parser.add_argument("--prompt", action="append")
    parser.add_argument("--tokens", type=int, default=16)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    load = dict(gguf_file=arguments.file.name, attn_implementation="eager", dtype=torch.float32)
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.file.parent, **load).eval()
    exact = transformers.AutoModelForCausalLM.from_config(model.config, attn_implementation="eager").double().eval()
    exact.load_state_dict(model.state_dict())
    vocabulary = llama_cpp.Llama(str(arguments.file), vocab_only=True, verbose=False)
    results = [reference(model, exact, vocabulary, p, arguments.tokens) for p in arguments.prompt or PROMPTS]
    with open(arguments.out, "w", encoding="utf-8") as file:
        json.dump({"torch": torch.__version__, "transformers": transformers.__version__, "results": results}, file, indent=1,
                  ensure_ascii=False)
        file.write("\n")
    for r in results:
        print(f"{r['prompt']}\n  -> {r['answer']!r}")


if __name__ == "__main__":
    main()
