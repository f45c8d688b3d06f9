#!/usr/bin/env python3
"""Times Drover and PyTorch + Transformers + PEFT in the same call, on the same machine and model directory.

    python peers_speed.py DIRECTORY [--bin build/release/bin] [--threads 2] [--repeat 3] [--case NAME ...] [--wait S]

Cases: lora (LoRA r 8 on all linears), lora_qv (on q_proj, v_proj), full (all weights), each AdamW on 4 sequences of
256 tokens, fp32, no dropout; generate_8, generate_32 (greedy, 64 tokens after prompts of 64, KV cache). A measurement
is a process of its own that drops its first step; Drover and the peer take turns, and the table has the median of
--repeat measurements of each. Load from outside shows as a wide range. The floor is the least work (matrix products
at this machine's best product rate; for decoding, one reading of weights and cache a step at its memory rate), both
rates measured here.

Needs torch, transformers, peft; nothing else may run meanwhile. --wait S waits up to S seconds for that.
"""

import argparse
import json
import os
import pathlib
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

BATCH, LENGTH, STEPS = 4, 256, 5
PROMPT, NEW = 64, 64
TARGETS = {"lora": "all-linear", "lora_qv": "q_proj,v_proj", "full": None}
CASES = [*TARGETS, "generate_8", "generate_32"]

# ---- the peer, in a process of its own ------------------------------------------------------------------------


def torch_training(directory, case, ids):
    import torch
    import transformers as tf
    model = tf.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
    if TARGETS[case]:
        from peft import LoraConfig, get_peft_model
        targets = TARGETS[case] if case == "lora" else TARGETS[case].split(",")
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets,
                                                 task_type="CAUSAL_LM"))
    model.train()
    model.config.use_cache = False
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-5, weight_decay=0.0, fused=True)
    rates = []
    for step in range(STEPS):
        begin = step * BATCH * LENGTH % (len(ids) - BATCH * LENGTH)
        x = torch.tensor(ids[begin:begin + BATCH * LENGTH]).view(BATCH, LENGTH)
        started = time.perf_counter()
        model(input_ids=x, labels=x).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rates.append(BATCH * LENGTH / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def torch_generation(directory, count, prompts):
    import torch
    import transformers as tf
    model = tf.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa").eval()
    x = torch.tensor(prompts[:count])

    def seconds(new):
        started = time.perf_counter()
        with torch.no_grad():
            out = model.generate(x, attention_mask=torch.ones_like(x), do_sample=False, max_new_tokens=new,
                                 min_new_tokens=new, pad_token_id=0)
        assert out.shape[1] == PROMPT + new
        return time.perf_counter() - started

    seconds(4)
    return count * NEW / seconds(NEW)


def torch_ceiling():
    """fp32 product (GFLOP/s) and reading (GB/s), the best of a few."""
    import torch
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    x = torch.ones(1 << 28)
    best = [0.0, 0.0]
    for _ in range(20):
        started = time.perf_counter()
        torch.mm(a, b)
        between = time.perf_counter()
        x.sum()
        best[1] = max(best[1], x.nbytes / (time.perf_counter() - between) / 1e9)
        best[0] = max(best[0], 2 * 2048**3 / (between - started) / 1e9)
    return best


def worker(arguments):
    import torch
    torch.set_num_threads(arguments.threads)
    if arguments.worker == "ceiling":
        result = torch_ceiling()
    elif arguments.worker in TARGETS:
        result = torch_training(arguments.directory, arguments.worker, json.loads(sys.stdin.read()))
    else:
        result = torch_generation(arguments.directory, int(arguments.worker.split("_")[1]),
                                  json.loads(sys.stdin.read()))
    print(json.dumps(result))


# ---- both sides as processes ----------------------------------------------------------------------------------


def timed(command, arguments, text=""):
    """Standard output, standard error, and peak memory in MiB of a process with the given number of threads."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads), TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        source.write(text.encode())
        source.seek(0)
        process = subprocess.Popen([str(c) for c in command], stdin=source, stdout=out, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        for file in (out, errors):
            file.seek(0)
        text_out, text_errors = out.read().decode(), errors.read().decode()
    if status:
        sys.exit(f"{' '.join(map(str, command[:4]))} ...: failed\n{text_errors}")
    return text_out, text_errors, usage.ru_maxrss / 1024


def peer(case, data, arguments):
    command = [sys.executable, __file__, arguments.directory, "--worker", case, "--threads", arguments.threads]
    out, _, peak = timed(command, arguments, json.dumps(data["ids"] if case in TARGETS else data["prompts"]))
    return json.loads(out.splitlines()[-1]), peak


def drover_training(case, data, arguments, scratch):
    command = [arguments.bin / "sft", "--model.path", arguments.directory, "--data.train", data["text"],
               "--run.dir", scratch / case, "--run.resume", "false", "--data.max_length", LENGTH,
               "--optim.micro_batch_tokens", BATCH * LENGTH, "--optim.batch_size", BATCH, "--optim.max_steps", STEPS,
               "--optim.lr", 1e-5, "--device.threads", arguments.threads]
    if TARGETS[case]:
        command += ["--lora.enabled", "--lora.r", 8, "--lora.dropout", 0, "--lora.targets", TARGETS[case]]
    _, _, peak = timed(command, arguments)
    with sqlite3.connect(scratch / case / "run.db") as log:
        rates = [r for (r,) in log.execute("select value from metric where name = 'train/tokens_per_second' "
                                           "order by step")]
    assert len(rates) == STEPS
    return statistics.median(rates[1:]), peak


def drover_generation(count, data, arguments):
    command = [arguments.bin / "generate", "--model", arguments.directory, "--prompts", data[f"prompts_{count}"],
               "--temperature", 0, "--max-new-tokens", NEW, "--ignore-eos", "--batch", count, "--json",
               "--threads", arguments.threads, "--prefill-chunk", 512]
    _, errors, peak = timed(command, arguments)
    rate = re.search(r"prompts: ([\d,]+) tokens, ([\d.,]+) tokens/s; answers: ([\d,]+) tokens, ([\d.,]+) tokens/s", errors)
    prompt_tokens, prompt_rate, new_tokens, new_rate = (float(x.replace(",", "")) for x in rate.groups())
    assert prompt_tokens == count * PROMPT, f"prompts of {prompt_tokens / count} tokens"
    # Steps that ran prompts gave each sample's first token too.
    return count * NEW / (prompt_tokens / prompt_rate + new_tokens / new_rate), peak


def drover(case, data, arguments, scratch):
    if case in TARGETS:
        return drover_training(case, data, arguments, scratch)
    return drover_generation(int(case.split("_")[1]), data, arguments)


# ---- data, floors, table --------------------------------------------------------------------------------------

WORDS = ("the a one this that every some small large old new red green quiet early late river road house garden "
         "letter engine table window market morning people child friend teacher doctor sailor farmer winter summer "
         "walks finds carries opens watches builds keeps brings leaves moves and but while because near under over "
         "with from after before into").split()


def make_data(directory, scratch):
    """Text for training and prompts of exactly PROMPT tokens, from a counter: nothing here depends on meaning."""
    import transformers as tf
    tf.logging.set_verbosity_error()
    tokenizer = tf.AutoTokenizer.from_pretrained(directory)
    state, words = 12345, []
    for _ in range(12000):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        words.append(WORDS[(state >> 33) % len(WORDS)])
    text = " ".join(words)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    (scratch / "text.jsonl").write_text(json.dumps({"text": text}) + "\n")
    prompts = [ids[i * PROMPT:(i + 1) * PROMPT] for i in range(32)]
    for count in (8, 32):
        lines = [json.dumps({"prompt": tokenizer.decode(p)}) for p in prompts[:count]]
        (scratch / f"prompts_{count}.jsonl").write_text("\n".join(lines) + "\n")
    return {"ids": ids, "prompts": prompts, "text": scratch / "text.jsonl",
            "prompts_8": scratch / "prompts_8.jsonl", "prompts_32": scratch / "prompts_32.jsonl"}


def floor(case, directory, flops, bandwidth):
    """Tokens a second if only the products (or the reading of weights and cache) took time, each at its best."""
    c = json.loads((pathlib.Path(directory) / "config.json").read_text())
    hidden, layers, kv = c["hidden_size"], c["num_hidden_layers"], c["num_key_value_heads"]
    size = hidden // c["num_attention_heads"]
    block = 2 * hidden * hidden + 2 * hidden * kv * size + 3 * hidden * c["intermediate_size"]
    weights = layers * block + hidden * c["vocab_size"]
    forward = lambda length: 2 * weights + layers * 4 * hidden * (length / 2)
    if case in TARGETS:
        return flops / (forward(LENGTH) * (3 if case == "full" else 2))
    count = int(case.split("_")[1])
    cache = count * (PROMPT + NEW / 2) * layers * 2 * kv * size * 4
    decode = max((4 * weights + cache) / bandwidth, count * forward(2 * PROMPT) / flops)
    return count * NEW / (count * PROMPT * forward(PROMPT) / flops + NEW * decode)


def idle_share(seconds):
    read = lambda: [int(x) for x in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    before = read()
    time.sleep(seconds)
    spent = [b - a for a, b in zip(before, read())]
    return spent[3] / max(1, sum(spent))


def wait_for_quiet(seconds):
    end = time.monotonic() + seconds
    while idle_share(3) < 0.9 and time.monotonic() < end:
        time.sleep(2)


def row(case, ours, theirs, limit):
    mine, their = statistics.median(r for r, _ in ours), statistics.median(r for r, _ in theirs)
    spread = lambda results: f"{min(r for r, _ in results):.0f}-{max(r for r, _ in results):.0f}"
    print(f"| {case} | {mine:.0f} ({spread(ours)}) | {their:.0f} ({spread(theirs)}) | {mine / their:.2f} | {limit:.0f} | "
          f"{mine / limit:.0%} | {max(p for _, p in ours):.0f} | {max(p for _, p in theirs):.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for a quiet machine, at each measurement")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments)
    import peft
    import torch
    import transformers
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}; "
          f"{arguments.threads} threads; load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        data = make_data(arguments.directory, scratch)
        wait_for_quiet(arguments.wait)
        flops, bandwidth = json.loads(timed([sys.executable, __file__, "-", "--worker", "ceiling", "--threads",
                                             arguments.threads], arguments)[0])
        print(f"library product 2048^3 {flops:.0f} GFLOP/s, reading {bandwidth:.1f} GB/s\n")
        print("| case | Drover, tokens/s (range) | PyTorch (range) | ratio | floor | reached | peak MiB | PyTorch's |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for case in arguments.case or CASES:
            ours, theirs = [], []
            for _ in range(arguments.repeat):
                wait_for_quiet(arguments.wait)
                ours.append(drover(case, data, arguments, scratch))
                wait_for_quiet(arguments.wait)
                theirs.append(peer(case, data, arguments))
            row(case, ours, theirs, floor(case, arguments.directory, flops * 1e9, bandwidth * 1e9))
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
