"""Tokenizers that are no tokenizer.json beside AutoTokenizer, sentencepiece and llama.cpp: what sources.sh runs.

    sources.py PROGRAM COUNT [FILE.gguf...]     every case of make_tokenizer_sources.py and every file on COUNT strings

PROGRAM is tokenizer_encode. A line per case says for how many texts ids or decoded text differ.
"""

import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fixtures"))

from transformers import AutoTokenizer  # noqa: E402

from compare import BATCH, ours  # noqa: E402
import make_tokenizer_kinds as kinds  # noqa: E402
import make_tokenizer_sources as sources  # noqa: E402

def compare(name, program, folder, kind, texts, theirs, show=2):
    """theirs: texts -> (ids without, ids with special tokens, text of the latter or None) or None, a text each."""
    counts, left_out = [0, 0], 0
    for begin in range(0, len(texts), BATCH):
        part = texts[begin:begin + BATCH]
        for text, (ids, shown, plain, _), expected in zip(part, ours(program, folder, part, kind), theirs(part)):
            if expected is None:
                left_out += 1
                continue
            other = list(plain) != list(expected[0]) or (expected[1] is not None and list(ids) != list(expected[1]))
            spelled = expected[2] is not None and shown != expected[2]
            counts = [counts[0] + other, counts[1] + spelled]
            if (other or spelled) and sum(counts) <= show:
                print(f"  {name}: {text!r}\n    ours   {plain} {shown!r}\n    theirs {expected}")
    print(f"{name:36} {len(texts) - left_out:8} {counts[0]:7} {counts[1]:7}", flush=True)
    return sum(counts)


def by_transformers(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def results(texts):
        for bare, ids in zip(tokenizer(texts, add_special_tokens=False)["input_ids"], tokenizer(texts)["input_ids"]):
            yield bare, ids, tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    return results


def by_sentencepiece(case):
    def results(texts):
        for item in sources.by_sentencepiece(case, texts):
            yield item and (item[0], None, None)  # decoded text is the fixture's to compare: unknown tokens have another

    return results


def by_llama(path):
    import llama_cpp
    model = llama_cpp.Llama(model_path=path, vocab_only=True, verbose=False)

    def results(texts):
        for text in texts:
            if "\0" in text:
                yield None  # its interface ends there
                continue
            yield model.tokenize(text.encode(), add_bos=False, special=True), None, None

    return results


def main(program, count, files):
    texts, wrong = kinds.strings(count, 14), 0
    print(f"{'tokenizer':36} {'texts':>8} {'ids':>7} {'text':>7}")
    for case in sources.cases():
        with tempfile.TemporaryDirectory() as parent:
            folder = os.path.join(parent, "d")
            sources.write(case, folder)
            theirs = by_sentencepiece(case) if case["kind"] == "sentencepiece" else by_transformers(folder)
            wrong += compare(case["name"], program, folder, case["kind"], texts, theirs)
    for path in files:
        wrong += compare(os.path.basename(path), program, path, "auto", texts, by_llama(path))
    print(f"{wrong} ids or texts differ")
    return wrong == 0


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
