"""The chat templates of real models beside jinja2: what real.sh runs.

    real.py gather CACHE               # fetches templates into the folder CACHE, unless they are there
    real.py compare PROGRAM FOLDER...  # renders all in the folders over the conversations, by jinja2 and by PROGRAM

A folder holds *.jinja files, or models (chat_template.jinja, tokenizer_config.json), itself or one level down.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request
import warnings
import zipfile

import reference
from conversations import CONVERSATIONS

MODELS = """
    01-ai/Yi-1.5-6B-Chat allenai/OLMo-2-1124-7B-Instruct allenai/Llama-3.1-Tulu-3-8B CohereLabs/aya-23-8B deepseek-ai/DeepSeek-R1 deepseek-ai/DeepSeek-R1-Distill-Qwen-7B
    deepseek-ai/DeepSeek-V2-Lite-Chat deepseek-ai/DeepSeek-V3 deepseek-ai/DeepSeek-V3.1 fireworks-ai/llama-3-firefunction-v2 HuggingFaceH4/zephyr-7b-beta HuggingFaceTB/SmolLM2-135M-Instruct
    HuggingFaceTB/SmolLM3-3B ibm-granite/granite-3.0-2b-instruct ibm-granite/granite-3.3-2b-instruct ibm-granite/granite-4.0-micro internlm/internlm2_5-7b-chat LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct
    LGAI-EXAONE/EXAONE-4.0-1.2B LiquidAI/LFM2-1.2B meetkai/functionary-small-v3.2 microsoft/Phi-3-mini-4k-instruct microsoft/Phi-3.5-mini-instruct microsoft/Phi-4-mini-instruct
    microsoft/phi-4 MiniMaxAI/MiniMax-M2 mistralai/Mistral-7B-Instruct-v0.2 mistralai/Mistral-7B-Instruct-v0.3 mistralai/Mistral-Nemo-Instruct-2407 moonshotai/Kimi-K2-Instruct
    NousResearch/Hermes-2-Pro-Llama-3-8B NousResearch/Hermes-3-Llama-3.1-8B NousResearch/Meta-Llama-3.1-8B-Instruct nvidia/Llama-3.1-Nemotron-Nano-8B-v1 nvidia/NVIDIA-Nemotron-Nano-9B-v2
    openai/gpt-oss-20b openbmb/MiniCPM3-4B openchat/openchat-3.5-0106 Qwen/Qwen1.5-0.5B-Chat Qwen/Qwen2-0.5B-Instruct Qwen/Qwen2.5-0.5B-Instruct Qwen/Qwen2.5-Coder-0.5B-Instruct
    Qwen/Qwen3-0.6B Qwen/Qwen3-4B-Instruct-2507 Qwen/Qwen3-4B-Thinking-2507 Qwen/Qwen3-Coder-30B-A3B-Instruct Qwen/QwQ-32B stabilityai/stablelm-2-1_6b-chat teknium/OpenHermes-2.5-Mistral-7B
    THUDM/glm-4-9b-chat-hf tiiuae/Falcon3-1B-Instruct tiiuae/Falcon-H1-0.5B-Instruct TinyLlama/TinyLlama-1.1B-Chat-v1.0 unsloth/gemma-2-2b-it unsloth/gemma-3-1b-it
    unsloth/Llama-3.2-1B-Instruct unsloth/Llama-4-Scout-17B-16E-Instruct upstage/SOLAR-10.7B-Instruct-v1.0 zai-org/GLM-4.5-Air
""".split()


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def of_config(text):
    """The templates of a tokenizer_config.json, by name."""
    template = json.loads(text).get("chat_template")
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}
    return {"": template} if template else {}


def keep(folder, name, text):
    (folder / (name.replace("/", "--") + ".jinja")).write_text(text, encoding="utf-8", newline="")


def gather(folder):
    """From the models' own repositories; where those are out of reach, the copies that TRL has of some."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.jinja")):
        return
    reached = fetch("https://huggingface.co/Qwen/Qwen3-0.6B/resolve/main/config.json") is not None
    for model in MODELS if reached else []:
        url = f"https://huggingface.co/{model}/resolve/main/"
        text, config = fetch(url + "chat_template.jinja"), fetch(url + "tokenizer_config.json")
        if text:
            keep(folder, model, text)
        for name, template in of_config(config).items() if config else []:
            if name or not text:
                keep(folder, model + ("--" + name if name else ""), template)
    if not reached:
        with tempfile.TemporaryDirectory() as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary, "trl==1.9.0"]
            if subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0:
                with zipfile.ZipFile(next(pathlib.Path(temporary).glob("trl-*.whl"))) as wheel:
                    for name in wheel.namelist():
                        if name.endswith(".jinja"):
                            keep(folder, "trl--" + pathlib.Path(name).stem, wheel.read(name).decode("utf-8"))
    print(f"{len(list(folder.glob('*.jinja')))} templates in {folder}")


def templates_of(folder):
    templates = {}
    for path in sorted(folder.glob("*.jinja")) + sorted(folder.glob("*/*.jinja")):
        with open(path, encoding="utf-8", newline="") as file:
            templates[str(path.relative_to(folder))] = file.read()
    for path in sorted(folder.glob("tokenizer_config.json")) + sorted(folder.glob("*/tokenizer_config.json")):
        for name, text in of_config(path.read_text(encoding="utf-8")).items():
            templates[str(path.relative_to(folder)) + (" " + name if name else "")] = text
    return templates


def compare(program, folders):
    templates, cases = {}, []
    for folder in folders:
        templates.update(templates_of(pathlib.Path(folder)))
    for name, source in templates.items():
        cases += [{"template": name, "input": input, **reference.expect_both(source, variables)} for input, variables in CONVERSATIONS.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump({"now": reference.NOW, "templates": templates, "inputs": CONVERSATIONS, "cases": cases}, file)
        file.flush()
        print(f"{len(templates)} templates, {len(cases)} conversations, each also with generation prompt", flush=True)
        return subprocess.run([program, "--each", file.name]).returncode


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of Python, on what jinja2 compiles
    if sys.argv[1] == "gather":
        gather(pathlib.Path(sys.argv[2]))
    else:
        sys.exit(compare(sys.argv[2], sys.argv[3:]))
