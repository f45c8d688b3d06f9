#!/usr/bin/env python3
"""What Transformers computes from a model directory, as JSON: the other side of the comparison with Drover.

    python reference.py DIRECTORY OUT.json [--prompt TEXT ...] [--tokens N] [--plain]

Weights are upcast to fp32, attention is eager, decoding is greedy without penalties. For each prompt: its ids, the greedy
answer as ids and text, and the log-probability of each id of both after the first, computed in fp32 and again in fp64.
Prompts go through the model's chat template unless --plain.
"""

import argparse
import json

import torch
import transformers

PROMPTS = [
    "What is the capital of France?",
    "Write one short sentence about the sea.",
    "Explain in two sentences why the sky is blue.",
    "List three fruits.",
]


def logprobs(model, ids):
    x = torch.tensor([ids])
    with torch.no_grad():
        logits = model(x).logits[0, :-1]
    return torch.log_softmax(logits.double(), -1).gather(1, x[0, 1:, None])[:, 0].tolist()


def reference(model, exact, tokenizer, prompt, count, plain):
    if plain:
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    else:
        text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False,
                                             add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    x = torch.tensor([ids])
    with torch.no_grad():
        answer = model.generate(x, attention_mask=torch.ones_like(x), do_sample=False, max_new_tokens=count,
                                pad_token_id=model.config.eos_token_id)[0, len(ids):].tolist()
    return {
        "prompt": prompt,
        "ids": ids,
        "answer_ids": answer,
        "answer": tokenizer.decode(answer, skip_special_tokens=True),
        "logprobs": logprobs(model, ids + answer),
        "logprobs_f64": logprobs(exact, ids + answer),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("out")
    parser.add_argument("--prompt", action="append")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.directory, dtype=torch.float32,
                                                              attn_implementation="eager").eval()
    exact = transformers.AutoModelForCausalLM.from_pretrained(arguments.directory, dtype=torch.float64,
                                                              attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.directory)
    result = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "results": [reference(model, exact, tokenizer, p, arguments.tokens, arguments.plain)
                    for p in arguments.prompt or PROMPTS],
    }
    with open(arguments.out, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1, ensure_ascii=False)
        file.write("\n")
    for r in result["results"]:
        print(f"{r['prompt']}\n  -> {r['answer']!r}")


if __name__ == "__main__":
    main()
