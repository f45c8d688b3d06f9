#!/usr/bin/env python3
"""Runs Drover and its peers in turn and prints the table of tools/bench_gpu.sh; see there."""

import argparse
import datetime
import json
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
LORA_R, LENGTH = 8, 2048
# Dense bf16 products with fp32 sums, from the makers' data sheets: what MFU is a fraction of. For other cards it is the
# measured rate of a large product, which is less.
PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "RTX 4090": 165e12, "RTX 3090": 71e12}
PARTS = ["device", "attention", "sft_full", "sft_lora", "graphs", "decode", "ppo"]


class Table:
    """Rows of the result, and everything measured on the way."""

    def __init__(self):
        self.rows, self.raw, self.card = [], {}, {}
        self.name = smi("name")

    def peak(self):
        """FLOP/s that MFU refers to."""
        for name, rate in PEAKS.items():
            if name in self.name:
                return rate
        return self.card.get("flops_per_second", 0)

    def add(self, work, drover, unit, floor=None, of="", peer=None, target="", met=None):
        """floor and peer are in the unit of drover; rates: larger is better."""
        self.rows.append([
            work, f"{drover:.4g} {unit}", f"{100 * drover / floor:.0f}% of {of}" if floor else "",
            f"{peer:.4g} {unit}" if peer else "not measured", f"{drover / peer:.2f}" if peer else "", target,
            "" if met is None else "yes" if met else "NO"
        ])
        print("  " + " | ".join(self.rows[-1]), file=sys.stderr, flush=True)

    def markdown(self):
        head = ["Work", "Drover", "Fraction of the floor", "Peer", "Ratio", "Target", "Met"]
        lines = [head, ["---"] * len(head), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def said(command, limit):
    """Standard output of a command; None, and why on standard error, when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        print(f"  over {limit} s: {' '.join(command)[:120]}", file=sys.stderr)
        return None
    if done.returncode == 0:
        return done.stdout
    print(f"  failed ({done.returncode}): {' '.join(command)[:120]}\n{done.stderr[-1500:]}", file=sys.stderr)
    return None


def smi(query):
    done = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip()


def bench(table, name, binary, *words):
    out = said([str(binary / "bench_model"), "--device", "cuda", "--json", *map(str, words)], 150)
    table.raw[name] = json.loads(out) if out else {}
    return table.raw[name]


def peer(table, name, work, **arguments):
    out = said([sys.executable, str(HERE / "peers.py"), work, json.dumps(arguments)], 240)
    table.raw[name + " peer"] = json.loads(out.strip().splitlines()[-1]) if out else {}
    return table.raw[name + " peer"]


# ---- the parts ------------------------------------------------------------------------------------------------


def device(table, _):
    table.card = peer(table, "device", "device")
    if table.card:
        print(f"  bf16 product {table.card['flops_per_second'] / 1e12:.0f} TFLOP/s, "
              f"copy {table.card['bytes_per_second'] / 1e9:.0f} GB/s", file=sys.stderr)


def attention(table, binary):
    for length in (2048, 8192):
        mine = bench(table, f"attention {length}", binary, "--config", HERE / "llama-7b.json", "--work", "attention",
                     "--length", length, "--micro-batch-tokens", 16384)
        theirs = peer(table, f"attention {length}", "attention", tokens=16384, length=length, heads=32, size=128)
        if not mine:
            continue
        for way, factor, target in (("forward", 1, 0.8), ("backward", 2.5, 0.7)):
            flops = factor * mine["flops"] / 1e12
            rate = flops / mine[way + "_seconds"]
            other = flops / theirs[way + "_seconds"] if theirs else None
            table.add(f"attention {way}, {length}, D 128", rate, "TFLOP/s", table.card.get("flops_per_second", 0) / 1e12,
                      "the product rate", other, f"≥ {target} of SDPA", other and rate / other >= target)


def training(table, binary, name, shape, tokens, lora, compiled, least_ratio):
    mine = bench(table, name, binary, "--config", HERE / shape, "--work", name, "--length", LENGTH,
                 "--micro-batch-tokens", tokens, "--r", LORA_R, "--steps", 5)
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text((HERE / shape).read_text())
        theirs = peer(table, name, "training", config=folder, tokens=tokens, length=LENGTH, lora=lora, r=LORA_R,
                      recompute=True, compile=compiled, steps=5)
    if not mine:
        return
    rate, floor = mine["tokens_per_second"], table.card.get("flops_per_second", 0) * mine["tokens"] / mine["flops"]
    other = theirs.get("tokens_per_second")
    # Of LoRA the best that is published: a run that computes blocks again does work that MFU does not count.
    least_mfu = 0.5 if not lora else 0.34 if re.search("H[12]00", table.name) else 0.56
    mfu = mine["flops"] / mine["seconds"] / table.peak() if table.peak() else 0
    table.add(f"{name}, {shape[6:-5]}, {tokens} tokens, packed {LENGTH}: MFU {100 * mfu:.0f}%", rate, "tokens/s", floor,
              "the product rate", other, f"MFU ≥ {100 * least_mfu:.0f}%, ≥ {least_ratio} of the peer",
              bool(other) and rate / other >= least_ratio and mfu >= least_mfu)
    memory(table, name, mine)


def memory(table, name, mine):
    share = mine["peak_bytes"] / mine["planned_bytes"]
    table.rows.append([f"{name}: peak memory", f"{mine['peak_bytes'] / 2**30:.2f} GiB",
                       f"planned {mine['planned_bytes'] / 2**30:.2f} GiB", "", "", "within 2% of the plan",
                       "yes" if abs(share - 1) <= 0.02 else f"NO ({100 * (share - 1):+.1f}%)"])


def sft_full(table, binary):
    training(table, binary, "sft_full", "llama-1b.json", 8192, False, True, 1.2)


def sft_lora(table, binary):
    training(table, binary, "sft_lora", "llama-7b.json", 8192, True, False, 1.5)


def graphs(table, binary):
    """Passes of a small model recorded, beside themselves; all of them fit."""
    for work in ("sft_lora", "sft_full"):
        for tokens in (512, 2048):
            words = ["--config", HERE / "llama-135m.json", "--work", work, "--length", 256, "--micro-batch-tokens", tokens,
                     "--r", LORA_R, "--recompute", "false", "--steps", 20, "--graphs"]
            name = f"{work}, 135m, {tokens} tokens"
            without, recorded = bench(table, name, binary, *words, 0), bench(table, name + " graphs", binary, *words, "4GiB")
            if without and recorded:
                rate, other = recorded["tokens_per_second"], without["tokens_per_second"]
                table.add(f"{name}: recorded, beside itself", rate, "tokens/s", peer=other, target="≥ 1", met=rate >= other)


def decode(table, binary):
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text((HERE / "llama-7b.json").read_text())
        theirs = peer(table, "decode", "decode", config=folder, batches=[1, 32, 256], length=128, new_tokens=64)
    for batch in (1, 32, 256):
        mine = bench(table, f"decode {batch}", binary, "--config", HERE / "llama-7b.json", "--work", "decode", "--length",
                     128, "--new-tokens", 128, "--batch", batch, "--steps", 2)
        if not mine:
            continue
        rate, other = mine["tokens_per_second"], theirs.get(str(batch), {}).get("tokens_per_second")
        floor = table.card.get("bytes_per_second", 0) * mine["tokens"] / mine["bytes"]
        target, met = "", None
        if batch == 1:
            target, met = "≥ 78% of the memory rate", bool(floor) and rate / floor >= 0.78
        if batch == 256:
            target, met = "≥ 1.6 times generate", bool(other) and rate / other >= 1.6
        table.add(f"decode 7b, batch {batch}", rate, "tokens/s", floor, "the memory rate", other, target, met)


def ppo(table, binary):
    prompts, new = 128, 128
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        mine = ppo_drover(binary, work, prompts, new)
        model = work / "model"
        model.mkdir(exist_ok=True)
        for weights in model.glob("*.safetensors"):
            weights.unlink()
        (model / "config.json").write_text((HERE / "llama-7b.json").read_text())
        theirs = peer(table, "ppo", "ppo", config=str(model), r=LORA_R, prompts=prompts, length=32, new_tokens=new,
                      minibatches=4, micro_batch=8, generate_batch=128, steps=1)
    table.raw["ppo"] = mine
    if mine:
        other = theirs.get("seconds")
        table.add("ppo 7b LoRA, 128 × 128, 24 GiB", 1 / mine["seconds"], "updates/s", peer=other and 1 / other,
                  target="≥ 0.9 times a loop with generate and one adapter", met=bool(other) and other / mine["seconds"] >= 0.9)
        memory(table, "ppo", mine)


def ppo_drover(binary, work, prompts, new):
    """Seconds of an update, from the stage itself under device.memory_limit 24GiB; {} when it fails."""
    words = " ".join(f"w{i}" for i in range(4000))
    (work / "text.jsonl").write_text(json.dumps({"text": words}) + "\n")
    with open(work / "prompts.jsonl", "w", encoding="utf-8") as out:
        for i in range(prompts):
            out.write(json.dumps({"prompt": " ".join(f"w{(97 * i + k) % 4000}" for k in range(12))}) + "\n")
    with open(work / "prefs.jsonl", "w", encoding="utf-8") as out:
        for i in range(8):
            out.write(json.dumps({"prompt": f"w{i}", "chosen": "w1 w2", "rejected": "w3 w4"}) + "\n")
    model, adapter = work / "model", work / "rm" / "adapter"
    common = ["--model.dtype", "bf16", "--model.recompute", "--lora.enabled", "--lora.r", str(LORA_R),
              "--device.backend", "cuda", "--device.memory_limit", "24GiB"]
    steps = [
        ["train_tokenizer", "--text", work / "text.jsonl", "--out", work / "tokenizer", "--vocab", "600"],
        ["init", "--config", HERE / "llama-7b.json", "--tokenizer", work / "tokenizer", "--out", model, "--dtype", "bf16"],
        ["reward", "--model.path", model, "--data.train", work / "prefs.jsonl", "--run.dir", work / "rm",
         "--optim.max_steps", "1", *common],
        ["ppo", "--model.path", model, "--reward.path", model, "--reward.adapter", adapter, "--data.prompts",
         work / "prompts.jsonl", "--run.dir", work / "ppo", "--ppo.total_episodes", str(3 * prompts), "--ppo.batch_size",
         str(prompts), "--ppo.minibatches", "4", "--ppo.epochs", "1", "--rollout.max_new_tokens", str(new),
         "--rollout.batch", "64", "--optim.micro_batch_tokens", "2048", *common],
    ]
    log = ""
    for step in steps:
        started = time.monotonic()
        done = subprocess.run([str(binary / step[0]), *map(str, step[1:])], capture_output=True, text=True, timeout=300,
                              check=False)
        print(f"  {step[0]}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        if done.returncode:
            print(done.stderr[-1500:], file=sys.stderr)
            return {}
        log = done.stderr
    with sqlite3.connect(work / "ppo" / "run.db") as database:
        rows = database.execute("select value from metric where name = 'ppo/updates_per_second' order by step").fetchall()
    sizes = re.search(r"peak memory ([\d.]+) (\w+), planned ([\d.]+) (\w+)", log)
    unit = {"MiB": 2**20, "GiB": 2**30}
    return {
        "seconds": 1 / rows[-1][0],
        "peak_bytes": float(sizes[1]) * unit[sizes[2]],
        "planned_bytes": float(sizes[3]) * unit[sizes[4]]
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--part", default=",".join(PARTS))
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    table = Table()
    for name in options.part.split(","):
        if name not in PARTS:
            sys.exit(f"bench_gpu: no part '{name}' (there are: {', '.join(PARTS)})")
    for name in dict.fromkeys(["device", *options.part.split(",")]):  # the floors come from the device
        print(f"{name}:", file=sys.stderr, flush=True)
        globals()[name](table, options.bin)
    text = f"{datetime.date.today()}, {smi('name,driver_version')}\n\n{table.markdown()}"
    print(text)
    if options.out:
        options.out.write_text(text)
        pathlib.Path(str(options.out) + ".json").write_text(json.dumps(table.raw, indent=1))


if __name__ == "__main__":
    main()
