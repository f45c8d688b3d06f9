#!/usr/bin/env python3
"""Times greedy decoding with 4-bit weights, Drover beside llama.cpp, in the same call on the same machine.

    python peers_4bit.py DIRECTORY GGUF [--bin build/release/bin] [--threads 2] [--repeat 3] [--new 32] [--batch 1 8]

DIRECTORY is the Hugging Face directory (tests/real/fetch.py), GGUF a file of the same model in any precision: llama.cpp
quantises it to Q4_0 and Q4_K_M. Drover decodes with F32 weights, and with --quantize nf4 --quantize-tables int8. Prompts of 64 tokens; only
the steps after them count, by each side's own clock: on a quiet machine. A measurement is a process of its own; all take turns, and the
table has the best of --repeat.

Needs llama-cpp-python. A build of llama.cpp that uses AMX ends with an illegal instruction on some virtual machines: build it
with CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF" there.
"""

import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

PROMPT = 64
FORMATS = {"Q4_0": "LLAMA_FTYPE_MOSTLY_Q4_0", "Q4_K_M": "LLAMA_FTYPE_MOSTLY_Q4_K_M"}


def quantise(source, target, name):
    import ctypes
    import llama_cpp
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, None)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, FORMATS[name])
    parameters.allow_requantize = True
    assert llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)) == 0


def worker(path, batch, threads, new):
    """llama.cpp's own decoding loop: seconds by the clock."""
    import llama_cpp as l
    import numpy as np
    silent = l.llama_log_callback(lambda *_: None)
    l.llama_log_set(silent, None)
    l.llama_backend_init()
    model = l.llama_model_load_from_file(path.encode(), l.llama_model_default_params())
    p = l.llama_context_default_params()
    p.n_ctx, p.n_batch, p.n_seq_max, p.n_threads, p.n_threads_batch = batch * 512, 512, batch, threads, threads
    context = l.llama_init_from_model(model, p)
    vocabulary = l.llama_vocab_n_tokens(l.llama_model_get_vocab(model))
    tokens = l.llama_batch_init(512, 0, 1)

    def run(rows):
        tokens.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            tokens.token[i], tokens.pos[i], tokens.logits[i] = token, position, logits
            tokens.n_seq_id[i], tokens.seq_id[i][0] = 1, sequence
        assert l.llama_decode(context, tokens) == 0

    source = random.Random(1)
    for s in range(batch):
        run([(source.randrange(1000, 40000), i, s, i == PROMPT - 1) for i in range(PROMPT)])
    last = [5] * batch
    for step in range(new + 2):
        if step == 2:
            clock = time.perf_counter()
        run([(last[s], PROMPT + step, s, 1) for s in range(batch)])
        last = [int(np.ctypeslib.as_array(l.llama_get_logits_ith(context, s), (vocabulary,)).argmax())
                for s in range(batch)]
    print(json.dumps(time.perf_counter() - clock))


def output(command, threads):
    """Standard output and standard error."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run([str(c) for c in command], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout, done.stderr


def llama(path, batch, a):
    out, _ = output([sys.executable, __file__, path, "-", "--worker", batch, "--threads", a.threads, "--new", a.new], a.threads)
    return batch * a.new / json.loads(out.splitlines()[-1])


def drover(options, batch, a, prompts):
    _, log = output([a.bin / "generate", "--model", a.directory, "--prompts", prompts[batch], "--temperature", 0, "--ignore-eos",
                     "--batch", batch, "--max-new-tokens", a.new + 1, "--threads", a.threads, "--json", *options], a.threads)
    return float(re.search(r"answers: \d+ tokens, ([0-9.]+) tokens/s", log)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("gguf")
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        return worker(a.directory, a.worker, a.threads, a.new)
    print(f"{a.threads} threads, {a.new} tokens after prompts of about {PROMPT}; load before: {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        scratch, sides, prompts = pathlib.Path(folder), {}, {}
        nf4 = ["--quantize", "nf4", "--quantize-tables", "int8"]
        sides["Drover NF4"] = lambda batch: drover(nf4, batch, a, prompts)
        sides["Drover F32"] = lambda batch: drover([], batch, a, prompts)
        for name in FORMATS:
            quantise(a.gguf, scratch / name, name)
            sides[f"llama.cpp {name}"] = lambda batch, path=scratch / name: llama(path, batch, a)
        print("| batch | | tokens/s | NF4 beside it |")
        print("| --- | --- | --- | --- |")
        for batch in a.batch:
            prompts[batch] = scratch / f"prompts{batch}"
            line = json.dumps({"prompt": " the red house by the river" * (PROMPT // 6)})
            prompts[batch].write_text((line + "\n") * batch)
            rates = {name: [] for name in sides}
            for _ in range(a.repeat):
                for name, side in sides.items():
                    rates[name].append(side(batch))
            for name, r in rates.items():
                print(f"| {batch} | {name} | {max(r):.1f} | {max(rates['Drover NF4']) / max(r):.2f} |", flush=True)
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
