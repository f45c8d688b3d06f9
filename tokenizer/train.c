#include "tokenizer/train.h"

#include "base/file.h"
#include "base/memory.h"
#include "tokenizer/added.h"
#include "tokenizer/learn.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/table.h"

#include <jansson.h>
#include <string.h>

const char tokenizer_chatml_template[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + "
    "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

static const char llama3_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

struct TokenizerTrainer {
  TokenizerTraining training; /* borrowed strings */
  json_t *pre;                /* "pre_tokenizer" of the file to be written */
  PreTokenizer pretokenizer;
  AddedToken *special;
  AddedSet special_set;
  StringPool pool;
  StringTable words; /* piece -> index into counts */
  const char **texts;
  uint32_t *lengths;
  int64_t *counts;
  size_t word_count, word_capacity;
  RegexScratch *scratch;
  PieceWork work;
};

/* ---- opening ---- */

static bool is_special(const TokenizerTraining *training, const char *token) {
  for (size_t i = 0; i < training->special_count; i++)
    if (strcmp(training->special[i], token) == 0) return true;
  return false;
}

static bool check(const TokenizerTraining *training, Error *error) {
  const char *const named[] = {training->bos, training->eos, training->pad, training->unk};
  for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
    if (named[i] && !is_special(training, named[i]))
      return error_set(error, ERROR_USAGE, "tokenizer: %s is not among the special tokens", named[i]);
  for (size_t i = 0; i < training->special_count; i++) {
    TokenizerTraining before = *training;
    before.special_count = i;
    if (training->special[i][0] == 0 || is_special(&before, training->special[i]))
      return error_set(error, ERROR_USAGE, "tokenizer: special token %zu is empty or given twice", i);
  }
  for (size_t i = 0; i < training->special_count; i++) {
    size_t skip, bytes = strlen(training->special[i]);
    if (utf8_valid_prefix(training->special[i], bytes, &skip) != bytes)
      return error_set(error, ERROR_USAGE, "tokenizer: special token %zu is not UTF-8", i);
  }
  if (training->add_bos && !training->bos)
    return error_set(error, ERROR_USAGE, "tokenizer: add_bos needs a BOS token");
  if (training->vocab_size < 0 || (size_t)training->vocab_size < training->special_count + 256)
    return error_set(error, ERROR_USAGE,
                     "tokenizer: vocab_size %d is too small: 256 bytes and %zu special tokens need %zu",
                     training->vocab_size, training->special_count, training->special_count + 256);
  return true;
}

static json_t *byte_level(bool use_regex) {
  return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                   "use_regex", (int)use_regex);
}

static json_t *split_json(TokenizerSplit split) {
  if (split == TOKENIZER_SPLIT_GPT2) return byte_level(true);
  return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type",
                   "Split", "pattern", "Regex", llama3_pattern, "behavior", "Isolated", "invert", 0,
                   byte_level(false));
}

static bool prepare(TokenizerTrainer *trainer, Error *error) {
  const TokenizerTraining *training = &trainer->training;
  trainer->pre = split_json(training->split);
  trainer->special = memory_zeroed(training->special_count + 1, sizeof *trainer->special);
  if (!trainer->pre || !trainer->special) return error_out_of_memory(error, "tokenizer trainer", 0);
  for (size_t i = 0; i < training->special_count; i++) {
    const char *text = training->special[i];
    trainer->special[i] = (AddedToken){.text = text,
                                       .bytes = strlen(text),
                                       .pattern = text,
                                       .pattern_bytes = strlen(text),
                                       .id = (int)i,
                                       .special = true};
  }
  Reader pre = reader_top("pre_tokenizer", trainer->pre);
  trainer->scratch = regex_scratch_new(error);
  return trainer->scratch && pretokenizer_init(&trainer->pretokenizer, &pre, error) &&
         added_set_init(&trainer->special_set, trainer->special, training->special_count, false, error);
}

TokenizerTrainer *tokenizer_trainer_open(const TokenizerTraining *training, Error *error) {
  if (!check(training, error)) return NULL;
  TokenizerTrainer *trainer = memory_zeroed(1, sizeof *trainer);
  if (!trainer) {
    error_out_of_memory(error, "tokenizer trainer", sizeof *trainer);
    return NULL;
  }
  trainer->training = *training;
  if (prepare(trainer, error)) return trainer;
  tokenizer_trainer_free(trainer);
  return NULL;
}

void tokenizer_trainer_free(TokenizerTrainer *trainer) {
  if (!trainer) return;
  json_decref(trainer->pre);
  pretokenizer_free(&trainer->pretokenizer);
  memory_free(trainer->special);
  added_set_free(&trainer->special_set);
  string_pool_free(&trainer->pool);
  string_table_free(&trainer->words);
  memory_free(trainer->texts);
  memory_free(trainer->lengths);
  memory_free(trainer->counts);
  regex_scratch_free(trainer->scratch);
  piece_work_free(&trainer->work);
  memory_free(trainer);
}

/* ---- counting words ---- */

static bool grow_words(TokenizerTrainer *trainer, Error *error) {
  if (trainer->word_count < trainer->word_capacity) return true;
  size_t capacity = trainer->word_capacity * 2 + 1024;
  const char **texts = memory_resize(trainer->texts, capacity * sizeof *texts);
  if (texts) trainer->texts = texts;
  uint32_t *lengths = texts ? memory_resize(trainer->lengths, capacity * sizeof *lengths) : NULL;
  if (lengths) trainer->lengths = lengths;
  int64_t *counts = lengths ? memory_resize(trainer->counts, capacity * sizeof *counts) : NULL;
  if (!counts) return error_out_of_memory(error, "words", capacity * sizeof *counts);
  trainer->counts = counts;
  trainer->word_capacity = capacity;
  return true;
}

static bool count_word(TokenizerTrainer *trainer, const char *word, size_t bytes, Error *error) {
  int index = string_table_get(&trainer->words, word, bytes);
  if (index >= 0) {
    trainer->counts[index]++;
    return true;
  }
  if (bytes > UINT32_MAX / 4) return error_set(error, ERROR_DATA, "a word of the training text is too long");
  if (!grow_words(trainer, error)) return false;
  const char *kept = string_pool_add(&trainer->pool, word, bytes, error);
  size_t at = trainer->word_count;
  if (!kept || !string_table_put(&trainer->words, kept, bytes, (int)at, error)) return false;
  trainer->texts[at] = kept;
  trainer->lengths[at] = (uint32_t)bytes;
  trainer->counts[at] = 1;
  trainer->word_count++;
  return true;
}

static bool count_section(TokenizerTrainer *trainer, const Text *text, size_t begin, size_t end,
                          Error *error) {
  PieceWork *work = &trainer->work;
  work->text.size = 0;
  if (!text_append_part(&work->text, text, begin, end, error) ||
      !pretokenizer_apply(&trainer->pretokenizer, work, begin == 0, trainer->scratch, error))
    return false;
  for (size_t i = 0; i < work->pieces.size; i++) {
    Piece piece = work->pieces.data[i];
    if (!count_word(trainer, work->text.data + piece.begin, piece.end - piece.begin, error)) return false;
  }
  return true;
}

bool tokenizer_trainer_add_text(TokenizerTrainer *trainer, const char *text, size_t bytes, Error *error) {
  Text input = {0};
  AddedParts parts = {0};
  bool done = text_append_input(&input, text, bytes, error) &&
              added_split(&trainer->special_set, input.data, input.size, &parts, error);
  for (size_t i = 0; done && i < parts.size; i++)
    if (!parts.data[i].token)
      done = count_section(trainer, &input, parts.data[i].begin, parts.data[i].end, error);
  added_parts_free(&parts);
  text_free(&input);
  return done;
}

bool tokenizer_trainer_add_file(TokenizerTrainer *trainer, const char *path, Error *error) {
  FileMap map;
  if (!file_map_open(&map, path, error)) return false;
  bool done = tokenizer_trainer_add_text(trainer, (const char *)map.data, map.size, error);
  file_map_close(&map);
  return done;
}

/* ---- writing ---- */

static json_t *added_json(const TokenizerTraining *training) {
  json_t *list = json_array();
  for (size_t i = 0; list && i < training->special_count; i++)
    json_array_append_new(
        list, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (int)i, "content", training->special[i],
                        "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
  return list;
}

static json_t *post_json(const TokenizerTraining *training) {
  if (!training->add_bos) return byte_level(true);
  int id = 0;
  while (strcmp(training->special[id], training->bos) != 0) id++;
  json_t *bos = json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", training->bos, "type_id", 0);
  json_t *first = json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0);
  json_t *second = json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1);
  json_t *template =
      json_pack("{s:s, s:[O, O], s:[O, O, o], s:{s:{s:s, s:[i], s:[s]}}}", "type", "TemplateProcessing",
                "single", bos, first, "pair", bos, first, second, "special_tokens", training->bos, "id",
                training->bos, "ids", id, "tokens", training->bos);
  json_decref(bos);
  json_decref(first);
  return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "processors", byte_level(true), template);
}

static json_t *model_json(const Learned *learned) {
  json_t *vocab = json_object(), *merges = json_array();
  for (size_t id = 0; id < learned->token_count; id++) {
    LearnedText token = learned->tokens[id];
    json_object_setn_new(vocab, token.text, token.bytes, json_integer((json_int_t)id));
  }
  for (size_t i = 0; i < learned->merge_count; i++) {
    LearnedText left = learned->tokens[learned->merges[i].left],
                right = learned->tokens[learned->merges[i].right];
    json_array_append_new(
        merges, json_pack("[s%, s%]", left.text, (size_t)left.bytes, right.text, (size_t)right.bytes));
  }
  return json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                   "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                   "byte_fallback", 0, "ignore_merges", 0, "vocab", vocab, "merges", merges);
}

static json_t *tokenizer_json(const TokenizerTrainer *trainer, const Learned *learned) {
  return json_pack("{s:s, s:n, s:n, s:o, s:n, s:O, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding",
                   "added_tokens", added_json(&trainer->training), "normalizer", "pre_tokenizer",
                   trainer->pre, "post_processor", post_json(&trainer->training), "decoder", byte_level(true),
                   "model", model_json(learned));
}

static json_t *config_json(const TokenizerTraining *training) {
  json_t *config = json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                             "clean_up_tokenization_spaces", 0);
  const char *const keys[] = {"bos_token", "eos_token", "pad_token", "unk_token", "chat_template"};
  const char *const values[] = {training->bos, training->eos, training->pad, training->unk,
                                training->chat_template};
  for (size_t i = 0; config && i < sizeof keys / sizeof keys[0]; i++)
    if (values[i]) json_object_set_new(config, keys[i], json_string(values[i]));
  if (config && training->add_bos) json_object_set_new(config, "add_bos_token", json_true());
  if (config && training->model_max_length > 0)
    json_object_set_new(config, "model_max_length", json_integer(training->model_max_length));
  return config;
}

/* Takes over root. */
static bool write_json_take(const char *directory, const char *name, json_t *root, Error *error) {
  char *path = path_join(directory, name);
  char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
  char *line = text ? memory_format("%s\n", text) : NULL;
  bool done = path && line ? file_write_text(path, line, error) : error_out_of_memory(error, name, 0);
  memory_free(line);
  free(text);
  memory_free(path);
  json_decref(root);
  return done;
}

bool tokenizer_trainer_write(TokenizerTrainer *trainer, const char *directory, int *vocab_size,
                             Error *error) {
  const TokenizerTraining *training = &trainer->training;
  Learned learned = {0};
  LearnInput input = {.special = training->special,
                      .special_count = training->special_count,
                      .words = trainer->texts,
                      .lengths = trainer->lengths,
                      .counts = trainer->counts,
                      .word_count = trainer->word_count,
                      .vocab_size = (size_t)training->vocab_size,
                      .min_frequency = training->min_frequency};
  bool done = learn_bpe(&input, &learned, error) && directory_create(directory, error) &&
              write_json_take(directory, "tokenizer.json", tokenizer_json(trainer, &learned), error) &&
              write_json_take(directory, "tokenizer_config.json", config_json(training), error);
  if (done && vocab_size) *vocab_size = (int)learned.token_count;
  learned_free(&learned);
  return done;
}
