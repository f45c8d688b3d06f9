#!/usr/bin/env python3
"""Times Drover and PyTorch + Transformers + PEFT in the same call, on the same machine and model directory.

    python peers_speed.py DIRECTORY [--bin build/release/bin] [--threads 2] [--repeat 3] [--case NAME ...] [--wait S]

Cases: lora (LoRA r 8 on all linears), lora_qv (on q_proj, v_proj), full (all weights), each AdamW on 4 sequences of
256 tokens, fp32, no dropout; generate_8, generate_32 (greedy, 64 tokens after prompts of 64, KV cache). A measurement
is a process of its own that drops its first step; Drover and the peer take turns, and the table has the median of
--repeat measurements of each. The floor is the least work (matrix products
at this machine's best product rate; for decoding, one reading of weights and cache a step at its memory rate), both
rates measured here.

Needs torch, transformers, peft, and a machine with nothing else to do: a measurement in which other processes took more
than a twentieth of the processors is thrown away and made again, for up to --wait seconds a case; then it counts, and
the case is marked with the share they took.
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
import typing

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


class Used(typing.NamedTuple):
    peak: float    # MiB
    others: float  # share of the processors that went to other processes meanwhile


def processor_times():
    """Clock ticks of all processors so far: busy, all."""
    times = [int(x) for x in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def timed(command, arguments, text=""):
    """Runs a process with the given number of threads: standard output, standard error, and what it used."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads), TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        source.write(text.encode())
        source.seek(0)
        busy, total = processor_times()
        process = subprocess.Popen([str(c) for c in command], stdin=source, stdout=out, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        after = processor_times()
        for file in (out, errors):
            file.seek(0)
        text_out, text_errors = out.read().decode(), errors.read().decode()
    if status:
        sys.exit(f"{' '.join(map(str, command[:4]))} ...: failed\n{text_errors}")
    own = (usage.ru_utime + usage.ru_stime) * os.sysconf("SC_CLK_TCK")
    others = max(0.0, after[0] - busy - own) / max(1, after[1] - total)
    return text_out, text_errors, Used(usage.ru_maxrss / 1024, others)


def peer(case, data, arguments):
    command = [sys.executable, __file__, arguments.directory, "--worker", case, "--threads", arguments.threads]
    out, _, used = timed(command, arguments, json.dumps(data["ids"] if case in TARGETS else data["prompts"]))
    return json.loads(out.splitlines()[-1]), used


def drover_training(case, data, arguments, scratch):
    command = [arguments.bin / "sft", "--model.path", arguments.directory, "--data.train", data["text"],
               "--run.dir", scratch / case, "--run.resume", "false", "--data.max_length", LENGTH,
               "--optim.micro_batch_tokens", BATCH * LENGTH, "--optim.batch_size", BATCH, "--optim.max_steps", STEPS,
               "--optim.lr", 1e-5, "--device.threads", arguments.threads]
    if TARGETS[case]:
        command += ["--lora.enabled", "--lora.r", 8, "--lora.dropout", 0, "--lora.targets", TARGETS[case]]
    _, _, used = timed(command, arguments)
    with sqlite3.connect(scratch / case / "run.db") as log:
        rates = [r for (r,) in log.execute("select value from metric where name = 'train/tokens_per_second' "
                                           "order by step")]
    assert len(rates) == STEPS
    return statistics.median(rates[1:]), used


def drover_generation(count, data, arguments):
    command = [arguments.bin / "generate", "--model", arguments.directory, "--prompts", data[f"prompts_{count}"],
               "--temperature", 0, "--max-new-tokens", NEW, "--ignore-eos", "--batch", count, "--json",
               "--threads", arguments.threads, "--prefill-chunk", 512]
    _, errors, used = timed(command, arguments)
    rate = re.search(r"prompts: ([\d,]+) tokens, ([\d.,]+) tokens/s; answers: ([\d,]+) tokens, ([\d.,]+) tokens/s", errors)
    prompt_tokens, prompt_rate, new_tokens, new_rate = (float(x.replace(",", "")) for x in rate.groups())
    assert prompt_tokens == count * PROMPT, f"prompts of {prompt_tokens / count} tokens"
    # Steps that ran prompts gave each sample's first token too.
    return count * NEW / (prompt_tokens / prompt_rate + new_tokens / new_rate), used


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


def undisturbed(measure, deadline):
    """A measurement that had the machine to itself, or, after the deadline, any."""
    while True:
        rate, used = measure()
        if used.others <= 0.05 or time.monotonic() > deadline:
            return rate, used
        while time.monotonic() < deadline:
            before = processor_times()
            time.sleep(2)
            after = processor_times()
            if after[0] - before[0] < 0.05 * (after[1] - before[1]):
                break


def row(case, ours, theirs, limit):
    mine, their = statistics.median(r for r, _ in ours), statistics.median(r for r, _ in theirs)
    spread = lambda results: f"{min(r for r, _ in results):.0f}-{max(r for r, _ in results):.0f}"
    disturbed = max(u.others for _, u in ours + theirs)
    print(f"| {case}{f' (others {disturbed:.0%})' if disturbed > 0.05 else ''} | {mine:.0f} ({spread(ours)}) | "
          f"{their:.0f} ({spread(theirs)}) | {mine / their:.2f} | {limit:.0f} | {mine / limit:.0%} | "
          f"{max(u.peak for _, u in ours):.0f} | {max(u.peak for _, u in theirs):.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--wait", type=float, default=0, help="seconds, for each case, to wait for a quiet machine")
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
        ceiling = lambda: timed([sys.executable, __file__, "-", "--worker", "ceiling", "--threads", arguments.threads],
                                arguments)[::2]
        flops, bandwidth = json.loads(undisturbed(ceiling, time.monotonic() + arguments.wait)[0])
        print(f"library product 2048^3 {flops:.0f} GFLOP/s, reading {bandwidth:.1f} GB/s\n")
        print("| case | Drover, tokens/s (range) | PyTorch (range) | ratio | floor | reached | peak MiB | PyTorch's |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for case in arguments.case or CASES:
            ours, theirs, deadline = [], [], time.monotonic() + arguments.wait
            for _ in range(arguments.repeat):
                ours.append(undisturbed(lambda: drover(case, data, arguments, scratch), deadline))
                theirs.append(undisturbed(lambda: peer(case, data, arguments), deadline))
            row(case, ours, theirs, floor(case, arguments.directory, flops * 1e9, bandwidth * 1e9))
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
