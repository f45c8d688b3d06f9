#include "tokenizer/postprocess.h"

#include <limits.h>
#include <string.h>

/* Puts the count ids in front of what is already there: an outer processor stands further out. */
static bool put_before(PostProcessor *post, const IntArray *ids, Error *error) {
  IntArray joined = {0};
  if (!int_array_append(&joined, ids->data, ids->size, error) ||
      !int_array_append(&joined, post->before.data, post->before.size, error)) {
    int_array_free(&joined);
    return false;
  }
  int_array_free(&post->before);
  post->before = joined;
  return true;
}

/* Appends the ids that a template's special token stands for. */
static bool template_token(const Reader *reader, const char *name, IntArray *ids, Error *error) {
  Reader tokens, token, list, item;
  if (!reader_member(reader, "special_tokens", &tokens, error) ||
      !reader_member(&tokens, name, &token, error) || !reader_array(&token, "ids", &list, error))
    return false;
  for (size_t i = 0; i < json_array_size(list.value); i++) {
    long long id;
    if (!reader_item(&list, i, &item, error) || !reader_as_int(&item, 0, INT_MAX, &id, error) ||
        !int_array_push(ids, (int)id, error))
      return false;
  }
  return true;
}

static bool read_template(PostProcessor *post, const Reader *reader, Error *error) {
  Reader list, item, piece;
  IntArray before = {0}, after = {0};
  int texts = 0;
  bool done = reader_array(reader, "single", &list, error);
  for (size_t i = 0; done && i < json_array_size(list.value); i++) {
    const char *name;
    size_t bytes;
    done = reader_item(&list, i, &item, error);
    if (done && reader_has(&item, "Sequence")) {
      texts++;
      continue;
    }
    done = done && reader_member(&item, "SpecialToken", &piece, error) &&
           reader_text(&piece, "id", true, &name, &bytes, error) &&
           template_token(reader, name, texts ? &after : &before, error);
  }
  if (done && texts != 1) done = reader_fail(reader, error, "a template must hold the text exactly once");
  done = done && put_before(post, &before, error) &&
         int_array_append(&post->after, after.data, after.size, error);
  int_array_free(&before);
  int_array_free(&after);
  return done;
}

/* ["</s>", 2] */
static bool read_pair(const Reader *reader, const char *key, IntArray *ids, Error *error) {
  Reader list, item;
  long long id;
  return reader_array(reader, key, &list, error) && reader_item(&list, 1, &item, error) &&
         reader_as_int(&item, 0, INT_MAX, &id, error) && int_array_push(ids, (int)id, error);
}

static bool read_bert(PostProcessor *post, const Reader *reader, Error *error) {
  IntArray before = {0};
  bool done = read_pair(reader, "cls", &before, error) && put_before(post, &before, error) &&
              read_pair(reader, "sep", &post->after, error);
  int_array_free(&before);
  return done;
}

static bool read_processor(PostProcessor *post, const Reader *reader, int depth, Error *error) {
  const char *type;
  if (!reader_type(reader, &type, error)) return false;
  if (strcmp(type, "TemplateProcessing") == 0) return read_template(post, reader, error);
  if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0)
    return read_bert(post, reader, error);
  if (strcmp(type, "ByteLevel") == 0) return true;
  if (strcmp(type, "Sequence") != 0)
    return reader_fail(reader, error,
                       "post-processor %s is not supported (known: TemplateProcessing, ByteLevel, "
                       "RobertaProcessing, BertProcessing, Sequence)",
                       type);
  Reader list, item;
  if (depth == 0) return reader_fail(reader, error, "sequences are nested too deeply");
  if (!reader_array(reader, "processors", &list, error)) return false;
  for (size_t i = 0; i < json_array_size(list.value); i++)
    if (!reader_item(&list, i, &item, error) || !read_processor(post, &item, depth - 1, error)) return false;
  return true;
}

bool postprocessor_init(PostProcessor *post, const Reader *reader, Error *error) {
  *post = (PostProcessor){0};
  if (!reader->value || read_processor(post, reader, 8, error)) return true;
  postprocessor_free(post);
  return false;
}

void postprocessor_free(PostProcessor *post) {
  int_array_free(&post->before);
  int_array_free(&post->after);
}
