/* Architectures: config.json -> ModelSpec, and the names of the tensors.
 *
 * One file in model/arch/ per family defines a static Architecture; architecture_list in arch.c names them
 * all. Modules stay as the checkpoint has them (DESIGN decision 2): names here are the checkpoint's own. */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "base/memory.h"
#include "base/reader.h"
#include "model/spec.h"

#include <jansson.h>

/* The linears a block can have. */
typedef enum LinearRole {
  LINEAR_QKV, /* fused, see QkvLayout */
  LINEAR_Q,
  LINEAR_K,
  LINEAR_V,
  LINEAR_O,
  LINEAR_GATE_UP, /* fused */
  LINEAR_GATE,
  LINEAR_UP, /* the first product of a plain MLP too */
  LINEAR_DOWN,
  LINEAR_ROLES
} LinearRole;

/* The norms a block can have. */
typedef enum NormRole {
  NORM_ATTENTION,      /* before attention; after it when placement is NORM_POST or NORM_OUTPUT */
  NORM_MLP,            /* likewise */
  NORM_ATTENTION_POST, /* NORM_SANDWICH: after attention */
  NORM_MLP_POST,
  NORM_Q,
  NORM_K,
  NORM_ROLES
} NormRole;

typedef struct Architecture {
  const char *model_type; /* config.json "model_type" */
  bool (*applies)(
      const json_t
          *config); /* where one model_type names tensors in several ways (Falcon): whether these names
                                            are meant; NULL = always */
  const char *causal_class; /* "LlamaForCausalLM" */
  const char *score_class;  /* "LlamaForSequenceClassification" */
  const char *prefix;       /* of everything but the LM head, may be absent in a file: "model." */
  const char *layer;        /* "layers.%d." after the prefix */
  const char *embedding;    /* "embed_tokens" (".weight" is added to every module name) */
  const char *positions;    /* learned position table, or NULL */
  const char *project_in,
      *project_out; /* linears without bias around the blocks where embedding_size is given */
  const char *embedding_norm;
  const char *final_norm;
  const char *head;                 /* "lm_head", without prefix */
  const char *linear[LINEAR_ROLES]; /* module after the layer prefix, "self_attn.q_proj"; NULL = not there */
  const char
      *norm[NORM_ROLES]; /* NULL: not there, or without parameters. With "%d": a tensor for each head */
  bool transposed;       /* block linears are [in, out]: GPT-2 */
  bool residual_init; /* fresh weights: products into the residual stream start smaller, by sqrt(2 layers) */
  bool norm_bias;     /* norms have a bias beside their weight, but for those of q and k: */
  bool qk_norm_bias;
  /* Tensors that its files carry and the model does without, beside the usual buffers: ".x" ends their names, "x." begins them.
   * NULL at the end. */
  const char *const *passed_over;
  const char *const *keys; /* of config.json that only this family has; NULL at the end */
  bool (*read)(const Reader *config, ModelSpec *spec, Error *error);
  bool linear_bias[LINEAR_ROLES]; /* whether a bias exists when config.json has no say */
  /* Overrides linear_bias from config.json (attention_bias, mlp_bias ...); NULL = the table above. */
  bool (*bias)(const json_t *config, LinearRole role);
} Architecture;

/* The architecture of a config, or NULL with ERROR_MODEL: unknown model_type, listing the known ones. */
const Architecture *architecture_find(const json_t *config, Error *error);

/* Fills the spec: refuses keys that are not known (naming them), reads, and checks the shape. */
NODISCARD bool architecture_read(const Architecture *arch, const json_t *config, ModelSpec *spec,
                                 Error *error);

/* Whether "architectures" names the ...ForSequenceClassification class. */
bool architecture_is_score(const Architecture *arch, const json_t *config);

/* Typed reads for the arch files, as base/reader.h, into the types of a spec. The `_or` forms take a fallback when the key is
 * absent or null, or when there is no such object at all. */
NODISCARD bool config_int(const Reader *config, const char *key, int64_t *out, Error *error);
NODISCARD bool config_int_or(const Reader *config, const char *key, int64_t fallback, int64_t *out,
                             Error *error);
/* A size: 1 to 2^24. */
NODISCARD bool config_size(const Reader *config, const char *key, int64_t *out, Error *error);
NODISCARD bool config_size_or(const Reader *config, const char *key, int64_t fallback, int64_t *out,
                              Error *error);
/* A size with another name in older or newer files; fallback 0: one of them must be there. Both, with different values, are an
 * error. */
NODISCARD bool config_size_named(const Reader *config, const char *key, const char *other, int64_t fallback,
                                 int64_t *out, Error *error);
NODISCARD bool config_float_or(const Reader *config, const char *key, double fallback, double *out,
                               Error *error);
NODISCARD bool config_bool_or(const Reader *config, const char *key, bool fallback, bool *out, Error *error);
NODISCARD bool config_text_or(const Reader *config, const char *key, const char *fallback, const char **out,
                              Error *error);
NODISCARD bool config_activation(const Reader *config, const char *key, const char *fallback, Activation *out,
                                 Error *error);
/* Heads that share hidden evenly, each with its own keys and values: kv_heads and head_size from heads and hidden. */
NODISCARD bool config_even_heads(const Reader *config, ModelSpec *spec, Error *error);
/* An error "KEY: why" unless the key is absent, null, false or empty. */
NODISCARD bool config_refuse(const Reader *config, const char *key, const char *why, Error *error);
/* An error unless the key is absent, null or `json`, the one value of it that means what is computed here. */
NODISCARD bool config_expect(const Reader *config, const char *key, const char *json, Error *error);
/* Numbers by their value, whatever they are written as; false when either is NULL. */
bool config_same_value(const json_t *a, const json_t *b);
/* Refuses keys that are neither read, nor known to change nothing, nor off (config_keys.c). */
NODISCARD bool config_check_keys(const Reader *config, const Architecture *arch, Error *error);
/* The same for an object of configuration in it: `keys` are those that are read, NULL at the end. */
NODISCARD bool config_check_members(const Reader *config, const char *const *keys, const char *type,
                                    Error *error);
/* own_key: one more that is known, or NULL. */
NODISCARD bool config_check_rope_keys(const Reader *rope, const char *own_key, Error *error);

/* Rotary keys (config_rope.c): rope_parameters (new), or rope_theta and rope_scaling (old). */
typedef struct RopeDefaults {
  double theta; /* the base, of a config that names none */
  double
      part; /* partial_rotary_factor, likewise; 0 = whole heads rotate, and a config that says otherwise is refused */
  double original_max; /* original_max_position_embeddings beside the rotary object, likewise; 0 = none */
  const char *own_key; /* of the rotary object, which the family reads itself: HunYuan's "alpha"; or NULL */
  bool longrope_alone; /* Phi-3: scaled rotations are longrope's, even where they are called "su" or "yarn" */
} RopeDefaults;

/* position, rotary_size and rope of the spec; head_size and max_positions are read before. */
NODISCARD bool config_rotary(const Reader *config, RopeDefaults defaults, ModelSpec *spec, Error *error);

/* Layers with a window have a table of their own. Old keys: rope_theta and rope_scaling are those of the other layers, and
 * local_key, where it is given, is the base of these. */
typedef struct LayerRopeDefaults {
  double theta, local_theta;
  const char *local_key; /* or NULL */
} LayerRopeDefaults;
NODISCARD bool config_rotary_by_layer(const Reader *config, LayerRopeDefaults defaults, ModelSpec *spec,
                                      Error *error);

/* The parts, for families with keys of their own: the object with the rotary keys, whose value is NULL where there is none;
 * and one table. */
NODISCARD bool config_rope_object(const Reader *config, Reader *rope, Error *error);
NODISCARD bool config_rope(const Reader *config, double default_theta, RopeSpec *out, Error *error);
/* What only the size of the heads decides. */
NODISCARD bool config_rope_fits(const RopeSpec *rope, int64_t rotary_size, Error *error);

#endif
