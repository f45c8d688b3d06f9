"""The conversations that templates are rendered over. They are what Transformers hands to a template: tools and documents are there, or none."""

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

TOOLS = [
    {"type": "function", "function": {"name": "find_train", "description": "Finds a train, even at \"night\".", "parameters": {
        "type": "object", "properties": {"to": {"type": "string", "description": " Where to: Köln, 東京 "},
                                         "when": {"type": ["string", "null"]}, "seats": {"type": "integer", "default": 1},
                                         "stops": {"type": "array", "items": {"type": "string"}},
                                         "class": {"type": "string", "enum": ["first", "second"], "default": "second"}},
        "required": ["to"]}}},
    {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}, "required": []},
                                      "return": {"type": "string", "description": "as HH:MM"}}},
]


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, id="abc123xyz"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat(*messages, tools=None, documents=None, **more):
    return {"messages": list(messages), "tools": tools, "documents": documents, **TOKENS, **more}


SYSTEM = turn("system", "Be brief.")
ASK = turn("user", "Is it far?")
SAY = turn("assistant", "Two hours.")
THINK = turn("assistant", "<think>\nFar is\n\nrelative.\n</think>\n\nNot very.")
RESULT = turn("tool", "{\"leaves\": \"09:15\"}", name="find_train", tool_call_id="abc123xyz")
CALL = turn("assistant", "", tool_calls=[call("find_train", {"to": "Köln", "seats": 2, "stops": ["Bonn", "\"X\""], "night": False, "via": None})])

CONVERSATIONS = {
    "single": chat(ASK),
    "system": chat(SYSTEM, ASK),
    "two turns": chat(SYSTEM, ASK, SAY),
    "many turns": chat(ASK, SAY, turn("user", "And by car?"), turn("assistant", "Three.\n\nWith rain, four."), turn("user", "Thanks!")),
    "ends with assistant": chat(SYSTEM, ASK, SAY, turn("user", "Sure?"), turn("assistant", "Yes.")),
    "tools": chat(SYSTEM, turn("user", "To Köln!"), tools=TOOLS),
    "tool call": chat(turn("user", "To Köln!"), CALL, RESULT, turn("assistant", "At 9:15."), tools=TOOLS),
    "two calls": chat(SYSTEM, ASK, turn("assistant", "I look.", tool_calls=[call("now", {}), call("find_train", {"to": "<b>&"}, "def456uvw")]),
                      turn("tool", "08:59", name="now", tool_call_id="abc123xyz"), turn("tool", "none", name="find_train", tool_call_id="def456uvw"), tools=TOOLS),
    "call as text": chat(ASK, turn("assistant", "x", tool_calls=[call("now", "{\"a\": 1}", "short")]), turn("tool", "08:59"), turn("user", "So?")),
    "thinking": chat(ASK, THINK, turn("user", "Why?"), THINK),
    "reasoning": chat(SYSTEM, ASK, turn("assistant", "\nNo.", reasoning_content="\nA moment.\n", thinking="\nA moment.\n"), turn("user", "Why not?"),
                      turn("assistant", "Because.", reasoning_content="Hm.", thinking="Hm.")),
    "reasoning and tools": chat(ASK, {**CALL, "reasoning_content": "Ask.", "thinking": "Ask."}, RESULT, turn("assistant", "Go.", reasoning_content="Good.", thinking="Good."), tools=TOOLS),
    "no thinking": chat(turn("system", "Hi. /no_think"), ASK, THINK, ASK, enable_thinking=False, thinking=False),
    "with thinking": chat(turn("user", "Go /think"), enable_thinking=True, thinking=True, reasoning_effort="high"),
    "unicode": chat(turn("system", "Δ — “quoted” «é»"), turn("user", "你好 👋🏽, שלום עולם! e\u0301 \u200d ﬁ ß"), turn("assistant", "مرحبا 𝒳 <b>&amp;</b> \\n \\ \" '")),
    "code": chat(turn("user", "{{ messages }} {% if x %}"), turn("assistant", "```c\nint main(void) {\n\treturn 0;\n}\n```\n")),
    "empty content": chat(turn("system", ""), turn("user", ""), turn("assistant", "")),
    "edges": chat(turn("system", " \n Be brief. \n "), turn("user", "\n\n  Is it far?\t "), turn("assistant", "  Two hours.\n\n"), turn("user", "\u00a0Thanks\u3000")),
    "line ends": chat(turn("user", "a\r\nb\n\nc\rd\r\n"), turn("assistant", "x\r\n\r\ny")),
    "users in a row": chat(ASK, turn("user", "Hello?"), SAY),
    "assistant first": chat(SAY, ASK),
    "system later": chat(ASK, SAY, SYSTEM, ASK),
    "two systems": chat(SYSTEM, turn("system", "Be kind."), ASK),
    "only system": chat(SYSTEM),
    "unknown role": chat(ASK, turn("narrator", "It rains."), SAY),
    "no messages": chat(),
    "no content": chat(ASK, {"role": "assistant"}, ASK),
    "null content": chat(ASK, turn("assistant", None, tool_calls=[call("now", {})]), turn("tool", "09:00"), tools=TOOLS),
    "parts": chat(turn("system", [{"type": "text", "text": "Be brief."}]), turn("user", [{"type": "text", "text": " What is "}, {"type": "image"}, {"type": "text", "text": "this? "}]),
                  turn("assistant", [{"type": "text", "text": "A cat."}])),
    "result as object": chat(ASK, CALL, turn("tool", {"leaves": "09:15", "late": 3.5}), tools=TOOLS),
    "documents": chat(SYSTEM, ASK, documents=[{"doc_id": 1, "title": "Roads", "text": "A long one."}]),
    "a date": chat(ASK, date_string="1 May 2025", datetime="May Day"),
}
