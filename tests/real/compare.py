#!/usr/bin/env python3
"""Compares Drover's executables with reference.py's file on the same model directory.

    python compare.py DIRECTORY REFERENCE.json [--bin build/release/bin] [--tolerance 1e-3]

For each prompt and its answer: the largest difference, in nats, of the log-probabilities of `inspect logprobs` from
Transformers' in fp32 and in fp64, and Transformers' own between the two; and whether the greedy answer of `generate
--temperature 0` has the same ids. Needs nothing but Python.
"""

import argparse
import json
import pathlib
import subprocess
import sys


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:3]))} ...: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def largest(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("reference", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    parser.add_argument("--tolerance", type=float, default=1e-4, help="nats, from fp64")
    arguments = parser.parse_args()
    failed = False
    for r in json.loads(arguments.reference.read_text(encoding="utf-8"))["results"]:
        ids = ",".join(map(str, r["ids"]))
        both = ",".join(map(str, r["ids"] + r["answer_ids"]))
        ours = run(arguments.bin / "inspect", "logprobs", "--model", arguments.directory, "--ids", both, "--json")
        ours, theirs, exact = ours["logprobs"], r["logprobs"], r["logprobs_f64"]
        answer = run(arguments.bin / "generate", "--model", arguments.directory, "--ids", ids, "--temperature", 0,
                     "--max-new-tokens", max(len(r["answer_ids"]), 1), "--json")
        # Transformers' answer ends with EOS where Drover's may leave it out.
        same = answer["ids"] == r["answer_ids"] or answer["ids"] == r["answer_ids"][:-1]
        good = largest(ours, exact) <= arguments.tolerance and same
        failed |= not good
        print(f"{'ok  ' if good else 'FAIL'} {len(ours)} tokens: {largest(ours, theirs):.1e} from fp32, "
              f"{largest(ours, exact):.1e} from fp64 (fp32 from fp64 {largest(theirs, exact):.1e}), greedy "
              f"{'same' if same else 'differs'}: {r['prompt']}")
        if not same:
            print(f"     ours   {answer.get('response', answer['ids'])!r}\n     theirs {r['answer']!r}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
