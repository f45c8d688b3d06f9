#include "datasets/chat_families.h"

#include <stddef.h>
#include <string.h>

/* Roles that a family has no place for are refused, in words that name them. */
#define OTHERWISE(family) \
  "{% else %}{{ raise_exception('the " family " template has no role ' ~ message['role']) }}{% endif %}"

#define SYSTEM_FIRST                                                                                   \
  "{% if not loop.first %}{{ raise_exception('message ' ~ loop.index ~ ': a system message must come " \
  "first') }}{% endif %}"

static const ChatFamily families[] = {
    {.name = "plain",
     .jinja = "{% for message in messages %}{{ message['content'] }}"
              "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}",
     .plain_text = true,
     .needs_eos = true},
    {.name = "chatml",
     .jinja =
         "{% for message in messages %}"
         "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
     .marks = {"<|im_start|>", "<|im_end|>"}},
    {.name = "alpaca",
     .jinja =
         "{% for message in messages %}"
         "{% if message['role'] == 'system' %}" SYSTEM_FIRST "{{ message['content'] + '\n\n' }}"
         "{% else %}"
         "{% if loop.first %}{% if message['input'] %}"
         "{{ 'Below is an instruction that describes a task, paired with an input that provides further "
         "context. "
         "Write a response that appropriately completes the request.\n\n' }}"
         "{% else %}"
         "{{ 'Below is an instruction that describes a task. Write a response that appropriately completes "
         "the "
         "request.\n\n' }}"
         "{% endif %}{% endif %}"
         "{% if message['role'] == 'assistant' %}{{ '### Response:\n' + message['content'] + eos_token }}"
         "{% elif message['role'] != 'user' %}"
         "{{ raise_exception('the alpaca template has no role ' ~ message['role']) }}"
         "{% elif message['input'] %}"
         "{{ '### Instruction:\n' + message['instruction'] + '\n\n### Input:\n' + message['input'] + '\n\n' "
         "}}"
         "{% else %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}{% endif %}"
         "{% endif %}{% endfor %}"
         "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}",
     .plain_text = true,
     .needs_eos = true},
    {.name = "vicuna",
     .jinja =
         "{% for message in messages %}"
         "{% if loop.first and message['role'] != 'system' %}"
         "{{ \"A chat between a curious user and an artificial intelligence assistant. The assistant gives "
         "helpful, "
         "detailed, and polite answers to the user's questions. \" }}{% endif %}"
         "{% if message['role'] == 'system' %}" SYSTEM_FIRST "{{ message['content'] + ' ' }}"
         "{% elif message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
         "{% elif message['role'] == 'assistant' %}{{ 'ASSISTANT: ' + message['content'] + eos_token "
         "}}" OTHERWISE("vicuna") "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
     .plain_text = true,
     .needs_eos = true},
    {.name = "zephyr",
     .jinja = "{% for message in messages %}"
              "{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
     .needs_eos = true},
    {.name = "llama2",
     .jinja = "{% set start = 1 if messages[0]['role'] == 'system' else 0 %}"
              "{% for message in messages[start:] %}"
              "{% if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') %}"
              "{{ raise_exception('message ' ~ (loop.index + start) ~ ': the llama2 template takes an "
              "optional system message, "
              "then user and assistant in turn, and this one is ' ~ message['role']) }}{% endif %}"
              "{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}"
              "{% elif loop.first and start %}"
              "{{ bos_token + '[INST] ' + ('<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' + "
              "message['content']) | "
              "trim + ' [/INST]' }}"
              "{% else %}{{ bos_token + '[INST] ' + message['content'] | trim + ' [/INST]' }}{% endif %}{% "
              "endfor %}",
     .needs_bos = true,
     .needs_eos = true},
    {.name = "llama3",
     .jinja =
         "{{ bos_token }}{% for message in messages %}"
         "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + "
         "'<|eot_id|>' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
     .marks = {"<|start_header_id|>", "<|eot_id|>"},
     .needs_bos = true},
};

const char chat_family_list[] = "plain, chatml, alpaca, vicuna, zephyr, llama2, llama3";

const ChatFamily *chat_family(const char *name) {
  for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
    if (strcmp(families[i].name, name) == 0) return &families[i];
  }
  return NULL;
}
