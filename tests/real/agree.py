#!/usr/bin/env python3
"""Transformers and PEFT load what Drover trained on a real model, and agree with Drover's own outputs.

    python agree.py MODEL --sft DIR --reward DIR --ppo DIR --merged DIR --pairs FILE.jsonl [--bin build/release/bin]

Checked in fp32: ids of the chat template; log-probabilities of dialogues under the SFT and the PPO adapter (PEFT on
the base) and under the merged model (Transformers); greedy answers of the merged model; scores of preference pairs
under the reward adapter. And that the adapters do something: an adapter that changed nothing would agree too.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import warnings

import torch
import transformers as tf
from peft import PeftModel

DIFFERENCE = 1e-4  # nats or units of score: rounding of 30 layers in fp32; measured differences are printed
CHANGE = 1e-2      # what an adapter must change at least
FAILED = []


def drover(arguments, *command):
    done = subprocess.run([str(arguments.bin / command[0]), *map(str, command[1:])], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:2]))} ...: exit code {done.returncode}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def say(good, text):
    print(f"{'ok  ' if good else 'FAIL'} {text}", flush=True)
    if not good:
        FAILED.append(text)


def load(arguments, directory, cls=tf.AutoModelForCausalLM, adapter=None, **more):
    model = cls.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager", **more)
    if adapter:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # PEFT warns of keys that do not fit
            warnings.filterwarnings("ignore", message=".*'score_shift'.*")  # our key, which PEFT passes over
            model = PeftModel.from_pretrained(model, adapter)
    return model.eval()


def logprobs(model, ids):
    x = torch.tensor([ids])
    with torch.no_grad():
        logits = model(input_ids=x, use_cache=False).logits[0, :-1]
    return torch.log_softmax(logits.double(), -1).gather(1, x[0, 1:, None])[:, 0]


def dialogue_ids(tokenizer, pair, side):
    """A dialogue up to the mark that ends the answer: what Drover trains on and scores."""
    messages = [{"role": "user", "content": pair["prompt"]}, {"role": "assistant", "content": pair[side]}]
    text = tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def check_template(arguments, tokenizer, pairs):
    same = 0
    for pair in pairs:
        text = tokenizer.apply_chat_template([{"role": "user", "content": pair["prompt"]}], tokenize=False,
                                             add_generation_prompt=True)
        ours = drover(arguments, "inspect", "chat", "--model", arguments.model, "--prompt", pair["prompt"], "--json")
        same += ours[0]["ids"] == tokenizer(text, add_special_tokens=False)["input_ids"]
    say(same == len(pairs), f"chat template: {same} of {len(pairs)} prompts have the same ids")


def check_logprobs(arguments, name, model, before, dialogues, *command):
    """Of the model as Transformers has it and as Drover's command has it; and what training changed since `before`."""
    largest = change = 0.0
    for ids in dialogues:
        theirs = logprobs(model, ids)
        ours = drover(arguments, "inspect", "logprobs", *command, "--ids", ",".join(map(str, ids)), "--json")
        ours = torch.tensor(ours[0]["logprobs"], dtype=torch.float64)
        largest = max(largest, (ours - theirs).abs().max().item())
        change = max(change, (theirs - logprobs(before, ids)).abs().max().item())
    say(largest <= DIFFERENCE and change >= CHANGE,
        f"{name}: log-probabilities of {sum(map(len, dialogues))} tokens differ by {largest:.1e} at most; "
        f"its training changed them by up to {change:.2f}")


def check_greedy(arguments, tokenizer, model, pairs):
    same = 0
    for pair in pairs:
        text = tokenizer.apply_chat_template([{"role": "user", "content": pair["prompt"]}], tokenize=False,
                                             add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        x = torch.tensor([ids])
        theirs = model.generate(x, attention_mask=torch.ones_like(x), do_sample=False, max_new_tokens=32,
                                pad_token_id=model.config.eos_token_id)[0, len(ids):].tolist()
        ours = drover(arguments, "generate", "--model", arguments.merged, "--prompt", pair["prompt"], "--chat",
                      "--temperature", 0, "--max-new-tokens", 32, "--json")[0]["ids"]
        same += ours == theirs
    say(same == len(pairs), f"merged: {same} of {len(pairs)} greedy answers have the same ids")


def check_scores(arguments, tokenizer, pairs):
    model = load(arguments, arguments.model, tf.AutoModelForSequenceClassification, arguments.reward, num_labels=1)
    shift = json.loads((arguments.reward / "adapter_config.json").read_text()).get("score_shift", 0.0)
    inner = model.base_model.model
    ours = drover(arguments, "inspect", "score", "--model", arguments.model, "--adapter", arguments.reward, "--data",
                  arguments.pairs, "--json")[:len(pairs)]
    largest, scores = 0.0, []
    for pair, mine in zip(pairs, ours, strict=True):
        for side in ("chosen", "rejected"):
            with torch.no_grad():
                x = torch.tensor([dialogue_ids(tokenizer, pair, side)])
                theirs = inner.score(inner.model(input_ids=x, use_cache=False).last_hidden_state[0, -1]).item()
            scores.append(theirs - shift)
            largest = max(largest, abs(theirs - shift - mine[side]))
    say(largest <= DIFFERENCE and max(scores) - min(scores) >= CHANGE,
        f"reward adapter: scores of {len(scores)} dialogues ({min(scores):.2f} to {max(scores):.2f}) differ by "
        f"{largest:.1e} at most")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    for name in ("sft", "reward", "ppo", "merged", "pairs"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    arguments = parser.parse_args()
    tf.logging.set_verbosity_error()
    tf.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
    tokenizer = tf.AutoTokenizer.from_pretrained(arguments.model)
    pairs = [json.loads(line) for line in arguments.pairs.read_text(encoding="utf-8").splitlines()][:4]
    dialogues = [dialogue_ids(tokenizer, pair, "chosen") for pair in pairs]
    bare, tuned, policy, merged = (
        load(arguments, arguments.model), load(arguments, arguments.model, adapter=arguments.sft),
        load(arguments, arguments.model, adapter=arguments.ppo), load(arguments, arguments.merged))
    check_template(arguments, tokenizer, pairs)
    check_logprobs(arguments, "sft adapter", tuned, bare, dialogues, "--model", arguments.model, "--adapter",
                   arguments.sft)
    check_logprobs(arguments, "ppo adapter", policy, tuned, dialogues, "--model", arguments.model, "--adapter",
                   arguments.ppo)
    check_logprobs(arguments, "merged", merged, tuned, dialogues, "--model", arguments.merged)
    largest = max((logprobs(merged, ids) - logprobs(policy, ids)).abs().max().item() for ids in dialogues)
    say(largest <= DIFFERENCE, f"merged equals base with adapter in Transformers: {largest:.1e}")
    check_greedy(arguments, tokenizer, merged, pairs)
    check_scores(arguments, tokenizer, pairs)
    sys.exit(bool(FAILED))


if __name__ == "__main__":
    main()
