"""What an assistant says in the renderings of chat templates, found by other means than Drover's: no bytes are followed; each turn is cut out of
jinja2's renderings of the conversation's beginnings, and its text is searched for in them.

    python tests/template/masks.py                     # families/*.jinja -> masks.json
    python tests/template/masks.py OUT.json FILE.jinja ...   # other templates

    {"now": seconds, "templates": {NAME: {"source", "special": [tokens]}}, "inputs": {NAME: VARIABLES},
     "cases": [{"template", "input", "examples": [TEXT, ...]}]}

examples: what is in the loss of each example, turns joined; one example where every beginning of the conversation is rendered as the whole begins,
else one for each turn. tests/template/run_masks.c compares.
"""

import json
import re
import sys
from pathlib import Path

import reference
from conversations import CONVERSATIONS

ROOT = Path(__file__).resolve().parent
SPECIAL = re.compile(r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>|"
                     r"\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|gMASK)\]|<sop>|<extra_id_\d>|"
                     r"<end_of_utterance>|\[/?\|[a-z]+\|\]|<\|?turn\|?>|\]~[a-z]?\]|\[e~\[")
INPUTS = ["two turns", "many turns", "ends with assistant", "thinking", "reasoning", "unicode", "code", "empty content", "edges", "line ends",
          "users in a row", "system later"]


def render(source, variables, count, prompt):
    result = reference.expect(source, {**variables, "messages": variables["messages"][:count], "add_generation_prompt": prompt})
    return result.get("text")


def squeezed(text):
    return re.sub(r"\s+", "", text)


def find(text, said):
    """Where `said` stands last in `text`, as it is or without white space at its ends; None when it does not."""
    if text.rfind(said) < 0:
        said = said.strip()
    at = text.rfind(said)
    return (at, at + len(said)) if said and at >= 0 else None


def bare(variables, k):
    """The same conversation, message k without white space at its ends."""
    message = {key: value.strip() if isinstance(value, str) else value for key, value in variables["messages"][k].items()}
    return {**variables, "messages": variables["messages"][:k] + [message] + variables["messages"][k + 1:]}


def turn(source, variables, k, whole):
    """What message k says in the rendering `whole` of the messages up to it; None: it cannot be told by these means."""
    message = variables["messages"][k]
    prompt = render(source, variables, k, True) if k > 0 else None
    follows = prompt is not None and whole.startswith(prompt)
    said = [message["content"]] + [message[key] for key in ("reasoning_content",) if key in message]
    if render(source, bare(variables, k), k + 1, False) == whole:
        said = [text.strip() for text in said]
    if not follows and (len(said) > 1 or "<think>" in said[0]):
        return None  # what surrounds the thinking is the template's or the message's
    places = [find(whole, text) for text in said if text.strip()]
    if any(place is None for place in places):
        return None
    if not places and not follows:
        return None
    first = min((place[0] for place in places), default=len(prompt or ""))
    end = max((place[1] for place in places), default=len(prompt or ""))
    begin = len(prompt) if follows else first
    marks = list(SPECIAL.finditer(whole, end))
    return whole[begin:marks[-1].end() if marks else end]


def examples(source, variables):
    messages = variables["messages"]
    whole = render(source, variables, len(messages), False)
    turns = [k for k, message in enumerate(messages) if message["role"] == "assistant"]
    if whole is None or not turns:
        return None
    beginnings = [render(source, variables, k + 1, False) for k in turns]
    if any(beginning is None for beginning in beginnings):
        return None
    texts = [turn(source, variables, k, beginning) for k, beginning in zip(turns, beginnings)]
    if any(text is None for text in texts):
        return None
    return ["".join(texts)] if all(whole.startswith(beginning) for beginning in beginnings) else texts


def main():
    arguments = sys.argv[1:]
    out = Path(arguments[0]) if arguments else ROOT / "masks.json"
    files = [Path(name) for name in arguments[1:]] if arguments else sorted((ROOT / "families").glob("*.jinja"))
    templates, cases, untold = {}, [], 0
    for path in files:
        source = path.read_text(encoding="utf-8")
        if "generation %}" in source or "generation -%}" in source or "{%- macro show(" in source:
            continue  # they say themselves what is learnt; or show messages otherwise than they are
        found = set(SPECIAL.findall(source)) | {"<s>", "</s>", "<pad>", "<unk>"}
        for name in INPUTS:
            variables = CONVERSATIONS[name]
            expected = examples(source, variables)
            if expected is None:
                untold += 1
                continue
            whole = render(source, variables, len(variables["messages"]), False)
            found |= set(SPECIAL.findall(whole))
            cases.append({"template": path.stem, "input": name, "examples": expected})
        templates[path.stem] = {"source": source, "special": sorted(found)}
    names = {case["template"] for case in cases}
    templates = {name: template for name, template in templates.items() if name in names}
    inputs = {name: CONVERSATIONS[name] for name in INPUTS}
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"now": reference.NOW, "templates": templates, "inputs": inputs, "cases": cases}, file, ensure_ascii=False, indent=0)
        file.write("\n")
    print(f"{out.name}: {len(templates)} templates, {len(cases)} cases, {untold} untold")


if __name__ == "__main__":
    main()
