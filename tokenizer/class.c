#include "tokenizer/class.h"

#include <stdio.h>
#include <string.h>

/* ---- which class ---- */

/* TOKENIZER_MAPPING_NAMES: the class of a model_type, for decoders. */
static const char *const registered[][2] = {
    {"cohere", "CohereTokenizer"},      {"cohere2", "CohereTokenizer"},
    {"gemma", "GemmaTokenizer"},        {"gemma2", "GemmaTokenizer"},
    {"gemma3", "GemmaTokenizer"},       {"gemma3_text", "GemmaTokenizer"},
    {"glm", "TokenizersBackend"},       {"glm4", "TokenizersBackend"},
    {"gpt2", "GPT2Tokenizer"},          {"gpt_neo", "GPT2Tokenizer"},
    {"gpt_neox", "GPTNeoXTokenizer"},   {"gptj", "GPT2Tokenizer"},
    {"granite", "TokenizersBackend"},   {"internlm2", "TokenizersBackend"},
    {"minicpm3", "TokenizersBackend"},  {"codegen", "GPT2Tokenizer"},
    {"ministral", "TokenizersBackend"}, {"ministral3", "TokenizersBackend"},
    {"mistral", "TokenizersBackend"},   {"mpt", "GPTNeoXTokenizer"},
    {"nemotron", "TokenizersBackend"},  {"olmo", "GPTNeoXTokenizer"},
    {"olmo2", "TokenizersBackend"},     {"olmo3", "TokenizersBackend"},
    {"opt", "GPT2Tokenizer"},           {"phi", "GPT2Tokenizer"},
    {"phi3", "TokenizersBackend"},      {"qwen2", "Qwen2Tokenizer"},
    {"qwen3", "Qwen2Tokenizer"},        {"stablelm", "TokenizersBackend"},
    {"starcoder2", "GPT2Tokenizer"},    {"gpt_bigcode", "TokenizersBackend"}};

/* MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS, of those that have a class of their own: what the directory names is left
 * aside. */
static const char *const distrusted[] = {"qwen2"};

static const struct {
  const char *name;
  ClassKind kind;
} classes[] = {{"TokenizersBackend", CLASS_BACKEND}, {"PreTrainedTokenizer", CLASS_BACKEND},
               {"BloomTokenizer", CLASS_BACKEND},    {"LlamaTokenizer", CLASS_LLAMA},
               {"GemmaTokenizer", CLASS_GEMMA},      {"GPT2Tokenizer", CLASS_GPT2},
               {"CodeGenTokenizer", CLASS_GPT2},     {"GPTNeoXTokenizer", CLASS_NEOX},
               {"Qwen2Tokenizer", CLASS_QWEN2}};

/* Classes that Transformers has beside those: what they build is another matter. All that neither list names is
 * unknown to it, and is read by TokenizersBackend. */
static const char *const foreign[] = {
    "AlbertTokenizer",    "BarthezTokenizer",     "BartTokenizer",       "BertTokenizer",
    "BigBirdTokenizer",   "BlenderbotTokenizer",  "CLIPTokenizer",       "CTRLTokenizer",
    "CamembertTokenizer", "CodeLlamaTokenizer",   "CohereTokenizer",     "CpmAntTokenizer",
    "CpmTokenizer",       "DebertaTokenizer",     "DebertaV2Tokenizer",  "FNetTokenizer",
    "GPTSw3Tokenizer",    "HerbertTokenizer",     "M2M100Tokenizer",     "MBart50Tokenizer",
    "MBartTokenizer",     "MarianTokenizer",      "NllbTokenizer",       "OpenAIGPTTokenizer",
    "PegasusTokenizer",   "Qwen3_5Tokenizer",     "ReformerTokenizer",   "RemBertTokenizer",
    "RobertaTokenizer",   "SeamlessM4TTokenizer", "T5Tokenizer",         "UdopTokenizer",
    "WhisperTokenizer",   "XGLMTokenizer",        "XLMRobertaTokenizer", "XLNetTokenizer"};

static size_t without_fast(const char *name) {
  const size_t length = strlen(name);
  return length > 4 && strcmp(name + length - 4, "Fast") == 0 ? length - 4 : length;
}

static bool same_class(const char *a, const char *b) {
  return without_fast(a) == without_fast(b) && strncmp(a, b, without_fast(a)) == 0;
}

static void set_class(TokenizerClass *class, const char *name) {
  snprintf(class->name, sizeof class->name, "%.*s", (int)without_fast(name), name);
  class->kind = CLASS_BACKEND;
  for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
    if (strcmp(class->name, classes[i].name) == 0) class->kind = classes[i].kind;
  for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
    if (strcmp(class->name, foreign[i]) == 0) class->kind = CLASS_FOREIGN;
}

static const char *class_of_model(const char *type) {
  for (size_t i = 0; type && i < sizeof registered / sizeof *registered; i++)
    if (strcmp(type, registered[i][0]) == 0) return registered[i][1];
  return NULL;
}

static bool is_distrusted(const char *type) {
  for (size_t i = 0; i < sizeof distrusted / sizeof *distrusted; i++)
    if (strcmp(type, distrusted[i]) == 0) return true;
  return false;
}

/* A member of a file that need not be there. */
static bool text_of(const Reader *file, const char *key, const char **text, Error *error) {
  size_t bytes;
  *text = NULL;
  return !file->value || reader_text(file, key, false, text, &bytes, error);
}

bool class_choose(const Companions *files, bool bytes, TokenizerClass *class, Error *error) {
  const char *named, *type, *in_model;
  *class = (TokenizerClass){0};
  if (!text_of(&files->config, "tokenizer_class", &named, error) ||
      !text_of(&files->model, "tokenizer_class", &in_model, error) ||
      !text_of(&files->model, "model_type", &type, error))
    return false;
  if (!named) named = in_model;
  class->hub_code = files->config.value && reader_has(&files->config, "auto_map");
  const char *own = class_of_model(type);
  set_class(class, named ? named : own ? own : "TokenizersBackend");
  if (class->kind == CLASS_LLAMA && bytes) set_class(class, "TokenizersBackend");
  if (!named || !own || same_class(named, own)) return true;
  if (same_class(own, "TokenizersBackend"))
    set_class(class, own);
  else if (is_distrusted(type))
    set_class(class, own);
  return true;
}

/* ---- what classes build ---- */

static const char gpt2_pre[] = "{\"type\": \"ByteLevel\", \"use_regex\": true, \"trim_offsets\": true}";

static const char qwen2_pre[] =
    "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"behavior\": \"Isolated\", "
    "\"invert\": false, \"pattern\": {\"Regex\": "
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|"
    "\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}}, "
    "{\"type\": \"ByteLevel\", \"use_regex\": false, \"trim_offsets\": true}]}";

static const char llama_pre[] =
    "{\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"split\": false}";
static const char gemma_pre[] =
    "{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": "
    "\"MergedWithPrevious\", \"invert\": false}";
static const char gemma_normalizer[] =
    "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}";
static const char nfc[] = "{\"type\": \"NFC\"}";

static const char bytes_decoder[] =
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true}";
static const char pieces_decoder[] =
    "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": "
    "\"\xe2\x96\x81\"}, "
    "\"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}]}";
static const char strip_decoder[] = "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}";

static const struct {
  const char *normalizer, *pre_tokenizer, *decoder;
  bool pieces;    /* SentencePiece's spelling: byte fallback and fused unknown tokens */
  bool names_unk; /* the model gets unk_token */
} built[] = {[CLASS_LLAMA] = {NULL, llama_pre, pieces_decoder, true, false},
             [CLASS_GEMMA] = {gemma_normalizer, gemma_pre, pieces_decoder, true, true},
             [CLASS_GPT2] = {NULL, gpt2_pre, bytes_decoder, false, false},
             [CLASS_NEOX] = {nfc, gpt2_pre, bytes_decoder, false, false},
             [CLASS_QWEN2] = {nfc, qwen2_pre, bytes_decoder, false, false}};

static bool set_text(json_t *object, const char *key, const char *text, Error *error) {
  json_t *value = text ? json_loads(text, 0, NULL) : json_null();
  return json_object_set_new(object, key, value) == 0 || error_out_of_memory(error, key, 0);
}

static bool set_value(json_t *object, const char *key, json_t *value, Error *error) {
  return json_object_set_new(object, key, value) == 0 || error_out_of_memory(error, key, 0);
}

static bool set_model(ClassKind kind, const Reader *config, json_t *top, Error *error) {
  json_t *model = json_object_get(top, "model");
  const bool pieces = built[kind].pieces;
  const char *unk = NULL;
  if (built[kind].names_unk && !text_of(config, "unk_token", &unk, error)) return false;
  if (built[kind].names_unk && !unk) unk = "<unk>";
  return set_value(model, "byte_fallback", json_boolean(pieces), error) &&
         set_value(model, "fuse_unk", json_boolean(pieces), error) &&
         set_value(model, "ignore_merges", json_false(), error) &&
         set_value(model, "continuing_subword_prefix", json_null(), error) &&
         set_value(model, "end_of_word_suffix", json_null(), error) &&
         set_value(model, "unk_token", unk ? json_string(unk) : json_null(), error);
}

/* Whether a space goes in front of a text, where the class has a say in it. */
static bool set_prefix(ClassKind kind, const Reader *config, json_t *top, Error *error) {
  bool wanted = kind == CLASS_LLAMA, legacy = false;
  json_t *pre = json_object_get(top, "pre_tokenizer");
  if (config->value && (!reader_bool(config, "add_prefix_space", wanted, &wanted, error) ||
                        !reader_bool(config, "legacy", false, &legacy, error)))
    return false;
  if (kind == CLASS_GEMMA) return true;
  if (kind == CLASS_LLAMA) {
    const char *scheme = !wanted ? "never" : legacy ? "always" : "first";
    json_t *steps = json_object_get(json_object_get(top, "decoder"), "decoders");
    json_t *strip = wanted ? json_loads(strip_decoder, 0, NULL) : NULL;
    if (wanted && json_array_append_new(steps, strip) != 0) return error_out_of_memory(error, "decoder", 0);
    return set_value(pre, "prepend_scheme", json_string(scheme), error);
  }
  if (kind == CLASS_QWEN2) pre = json_array_get(json_object_get(pre, "pretokenizers"), 1);
  return set_value(pre, "add_prefix_space", json_boolean(wanted), error);
}

bool class_steps(const TokenizerClass *class, const Reader *config, json_t *top, Error *error) {
  const ClassKind kind = class->kind;
  if (kind == CLASS_BACKEND || kind == CLASS_FOREIGN) return true;
  return set_model(kind, config, top, error) && set_text(top, "normalizer", built[kind].normalizer, error) &&
         set_text(top, "pre_tokenizer", built[kind].pre_tokenizer, error) &&
         set_text(top, "decoder", built[kind].decoder, error) && set_prefix(kind, config, top, error);
}

/* What a key means where it is absent; keys that only offsets or nothing depend on are no difference. */
static bool same_member(const char *key, const json_t *a, const json_t *b);

static bool same_value(const json_t *a, const json_t *b) {
  if (a == b) return true;
  const char *key;
  json_t *value;
  size_t i;
  if (json_is_array(a) && json_is_array(b) && json_array_size(a) == json_array_size(b)) {
    json_array_foreach(a, i, value) if (!same_value(value, json_array_get(b, i))) return false;
    return true;
  }
  if (!json_is_object(a) || !json_is_object(b)) return json_equal(a, b) == 1;
  json_object_foreach((json_t *)a, key, value) {
    if (!same_member(key, value, json_object_get(b, key))) return false;
  }
  json_object_foreach((json_t *)b, key, value) {
    if (!json_object_get(a, key) && !same_member(key, NULL, value)) return false;
  }
  return true;
}

static bool same_member(const char *key, const json_t *a, const json_t *b) {
  if (strcmp(key, "trim_offsets") == 0) return true;
  if (strcmp(key, "use_regex") == 0) return json_is_false(a) == json_is_false(b);
  if (!a || !b) return json_is_null(a ? a : b) || json_is_false(a ? a : b);
  return same_value(a, b);
}

static bool is_bytes(const json_t *step) {
  const char *type = json_string_value(json_object_get(step, "type"));
  return type && strcmp(type, "ByteLevel") == 0; /* a decoder: its settings decide nothing */
}

bool class_same_steps(const json_t *a, const json_t *b) {
  static const char *const parts[] = {"normalizer", "pre_tokenizer", "decoder"};
  for (size_t i = 0; i < 3; i++) {
    const json_t *x = json_object_get(a, parts[i]), *y = json_object_get(b, parts[i]);
    if (i == 2 && is_bytes(x) && is_bytes(y)) continue;
    if (!same_member(parts[i], x, y)) return false;
  }
  return true;
}

bool class_names(const TokenizerClass *class, json_t *config, Error *error) {
  static const struct {
    ClassKind kind;
    const char *key, *text;
  } names[] = {{CLASS_LLAMA, "unk_token", "<unk>"},         {CLASS_LLAMA, "bos_token", "<s>"},
               {CLASS_LLAMA, "eos_token", "</s>"},          {CLASS_GEMMA, "unk_token", "<unk>"},
               {CLASS_GEMMA, "bos_token", "<bos>"},         {CLASS_GEMMA, "eos_token", "<eos>"},
               {CLASS_GEMMA, "pad_token", "<pad>"},         {CLASS_GEMMA, "mask_token", "<mask>"},
               {CLASS_GPT2, "unk_token", "<|endoftext|>"},  {CLASS_GPT2, "bos_token", "<|endoftext|>"},
               {CLASS_GPT2, "eos_token", "<|endoftext|>"},  {CLASS_NEOX, "unk_token", "<|endoftext|>"},
               {CLASS_NEOX, "bos_token", "<|endoftext|>"},  {CLASS_NEOX, "eos_token", "<|endoftext|>"},
               {CLASS_NEOX, "pad_token", "<|padding|>"},    {CLASS_QWEN2, "unk_token", "<|endoftext|>"},
               {CLASS_QWEN2, "eos_token", "<|endoftext|>"}, {CLASS_QWEN2, "pad_token", "<|endoftext|>"}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (names[i].kind != class->kind || json_object_get(config, names[i].key)) continue;
    if (!set_value(config, names[i].key, json_string(names[i].text), error)) return false;
  }
  return true;
}
