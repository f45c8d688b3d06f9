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
extern const Architecture architecture_baichuan_7b;
extern const Architecture architecture_baichuan;
extern const Architecture architecture_internlm;
extern const Architecture architecture_internlm2;
extern const Architecture architecture_internlm3;
extern const Architecture architecture_chatglm;
extern const Architecture architecture_minicpm;
extern const Architecture architecture_exaone;
extern const Architecture architecture_qwen;
extern const Architecture architecture_aquila;
extern const Architecture architecture_xverse;
extern const Architecture architecture_orion;
extern const Architecture architecture_yi;

#endif
