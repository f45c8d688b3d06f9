/* Inside model/gguf*.c only: how a GGUF file says what a Hugging Face directory says with config.json and tensor names.
 *
 * A family is a general.architecture of llama.cpp. Its table gives the config.json key of each metadata key, and what the converter
 * did to the weights; the names of tensors follow from the Architecture, whose parts GGUF calls the same in all families. Reading
 * undoes what is written here, and whoever writes GGUF does it.
 *
 * References: conversion/ and src/models/ of llama.cpp; gguf/constants.py and gguf/tensor_mapping.py; Transformers' own reader,
 * integrations/ggml.py and modeling_gguf_pytorch_utils.py. */
#ifndef MODEL_GGUF_FAMILY_H
#define MODEL_GGUF_FAMILY_H

#include "formats/gguf.h"
#include "model/arch.h"

/* The metadata of a model as they are made into a configuration. */
typedef struct GgufMeta {
  const GgufSet *set;
  const GgufFile *file; /* the one with the metadata */
  const struct GgufFamily *family;
  json_t *config;
  bool *used; /* [values of the file] */
} GgufMeta;

typedef struct GgufKey {
  const char *from; /* behind "ARCHITECTURE." */
  const char *to;   /* in config.json */
} GgufKey;

typedef struct GgufFamily {
  const char *architecture;
  const char *model_type;
  const GgufKey *keys; /* NULL at the end */
  /* What the keys do not say. */
  bool (*describe)(GgufMeta *meta, Error *error);
  const char
      *partial;     /* the key for the part of a head that rotates; NULL: heads rotate whole, or not at all */
  bool interleaved; /* rows of q and k: the halves of each head are interleaved, (0, D/2, 1, D/2 + 1, ...) */
  const char *norm[NORM_ROLES]; /* where the name is not the usual one */
} GgufFamily;

/* NULL with ERROR_MODEL: not known, with the names that are. */
const GgufFamily *gguf_family_find(const GgufFile *file, Error *error);

/* GGUF's name for a part: the stem between "blk.N." and ".weight"; NULL where the family has no such part. */
const char *gguf_linear_name(LinearRole role);
const char *gguf_norm_name(const GgufFamily *family, NormRole role);
#define GGUF_EMBEDDING      "token_embd"
#define GGUF_POSITIONS      "position_embd"
#define GGUF_EMBEDDING_NORM "token_embd_norm"
#define GGUF_FINAL_NORM     "output_norm"
#define GGUF_HEAD           "output"
/* Tensors that hold part of the configuration. */
#define GGUF_ROPE_FREQUENCIES "rope_freqs.weight"
#define GGUF_ROPE_LONG        "rope_factors_long.weight"
#define GGUF_ROPE_SHORT       "rope_factors_short.weight"

/* Whether the LM head is the embedding table: there is no other, or a copy of it. */
bool gguf_is_tied(const GgufSet *set);

/* ---- metadata of the architecture: keys without "ARCHITECTURE." ---- */

/* NULL: not there. What was asked for counts as understood. */
const GgufValue *meta_find(GgufMeta *meta, const char *key);
/* Where the key is not there, *out keeps its value. */
NODISCARD bool meta_int(GgufMeta *meta, const char *key, int64_t least, int64_t *out, Error *error);
NODISCARD bool meta_number(GgufMeta *meta, const char *key, double *out, Error *error);
NODISCARD bool meta_bool(GgufMeta *meta, const char *key, bool *out, Error *error);
bool meta_fail(const GgufMeta *meta, const char *key, Error *error, const char *format, ...)
    PRINTF_LIKE(4, 5);
/* Whether there is such a tensor. */
bool meta_has_tensor(const GgufMeta *meta, const char *name);

void meta_set_int(GgufMeta *meta, const char *key, int64_t value);
void meta_set_number(GgufMeta *meta, const char *key, double value);
void meta_set_bool(GgufMeta *meta, const char *key, bool value);
void meta_set_text(GgufMeta *meta, const char *key, const char *value);
/* Of what is in the configuration already. */
int64_t meta_config_int(const GgufMeta *meta, const char *key);
double gguf_shortest(float value); /* 1e-06 for the float next to it: what the file was made from */

/* gguf_config_read of an open model. */
json_t *gguf_config_of(const GgufSet *set, Error *error);
/* rope.* (gguf_rope.c). */
NODISCARD bool gguf_rope_describe(GgufMeta *meta, int64_t head_size, Error *error);

#endif
