"""What jinja2, set up as Transformers does it, makes of a template: the text, or the error."""

import datetime
import functools

import jinja2
from transformers.utils import chat_template_utils

NOW = 1753795815  # seconds: what strftime_now tells, 29 July 2025 13:30:15


@functools.lru_cache(maxsize=64)
def compiled(source):
    template = chat_template_utils._cached_compile_jinja_template(source)
    now = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)

    def strftime_now(format):
        return now.strftime(format)

    template.environment.globals["strftime_now"] = strftime_now
    template.globals["strftime_now"] = strftime_now

    def raise_exception(message):
        error = jinja2.exceptions.TemplateError(message)
        error.said = True
        raise error

    template.globals["raise_exception"] = raise_exception
    return template


def expect(source, variables):
    """{"text": ...}, or {"error": the words of raise_exception, or true}."""
    try:
        return {"text": compiled(source).render(**variables)}
    except Exception as error:
        return {"error": str(error) if getattr(error, "said", False) and error.message is not None else True}


def generations(source, variables):
    """The stretches of {% generation %} in bytes, without empty ones, those that touch as one; None where there is no text."""
    try:
        text, stretches = chat_template_utils._render_with_assistant_indices(compiled(source), **variables)
    except Exception:
        return None
    result = []
    for begin, end in stretches:
        begin, end = len(text[:begin].encode()), len(text[:end].encode())
        if result and result[-1][1] == begin:
            result[-1][1] = end
        elif end > begin:
            result.append([begin, end])
    return result


def expect_both(source, variables):
    """The same without and with add_generation_prompt."""
    result = expect(source, {**variables, "add_generation_prompt": False})
    if "generation %}" in source or "generation -%}" in source:
        stretches = generations(source, {**variables, "add_generation_prompt": False})
        if stretches is not None:
            result["generations"] = stretches
    prompting = expect(source, {**variables, "add_generation_prompt": True})
    if "error" in prompting:
        result["prompt_error"] = prompting["error"]
    elif "text" in result and prompting["text"].startswith(result["text"]):
        result["prompt"] = prompting["text"][len(result["text"]):]
    else:
        result["prompt_text"] = prompting["text"]
    return result
