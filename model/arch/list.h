/* The architectures there are, one file each; arch.c puts them in a list. */
#ifndef MODEL_ARCH_LIST_H
#define MODEL_ARCH_LIST_H

#include "model/arch.h"

extern const Architecture architecture_llama;
extern const Architecture architecture_mistral;
extern const Architecture architecture_ministral;
extern const Architecture architecture_qwen2;
extern const Architecture architecture_qwen3;
extern const Architecture architecture_gpt_neox;
extern const Architecture architecture_gpt2;
extern const Architecture architecture_gptj;
extern const Architecture architecture_gpt_neo;
extern const Architecture architecture_bloom;
extern const Architecture architecture_phi;

#endif
