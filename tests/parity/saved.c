/* What Drover writes: the same tensors as Transformers wrote, under the same names, in the type asked for.
 *
 * With DROVER_SAVED=DIR the directories are left there, for tests/real/peers.py to load with Transformers and
 * PEFT; without it they are temporary. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/rig.h"
#include "tests/support/saved.h"
#include "tests/folder.h"

#include <jansson.h>

/* KIND-NAME in the folder of this run. */
static void saved_path(char *out, size_t size, const char *kind, const char *name) {
  const char *root = getenv("DROVER_SAVED");
  snprintf(out, size, "%s/%s-%s", root ? root : folder.directory, kind, name);
}

static void nothing(Rig *rig, void *context) {
  (void)rig;
  (void)context;
}

typedef struct Case {
  const char *name;  /* of the directory written */
  const char *model; /* read */
  const char *same;  /* whose tensors the written ones equal, bit for bit; NULL: not compared here */
  const char *adapter;
  bool score;
  DType dtype;     /* in memory and in the file */
  bool no_padding; /* config.json of the base names no padding */
} Case;

static void test_save(void **state) {
  const Case *c = *state;
  Error error = {0};
  char model[512], adapter[512], same[512], saved[512];
  RigSpec spec = {
      .model = fixture_path(model, sizeof model, "models", c->model), .score = c->score, .dtype = c->dtype};
  if (c->adapter) spec.adapter = fixture_path(adapter, sizeof adapter, "peft", c->adapter);
  saved_path(saved, sizeof saved, c->adapter ? "merged" : "model", c->name);
  Rig rig;
  rig_open(&rig, spec, nothing, NULL);
  if (c->no_padding) json_object_del(rig.model.config, "pad_token_id");
  rig_check(model_save(&rig.model, c->score ? &rig.head : NULL, c->adapter ? &rig.adapter : NULL, NULL, model,
                       saved, c->dtype, &rig.compute, &error),
            &error);
  rig_close(&rig);
  if (c->same) assert_same_tensors(saved, fixture_path(same, sizeof same, "models", c->same), "model");
}

static void test_save_adapter(void **state) {
  const Case *c = *state;
  Error error = {0};
  char model[512], adapter[512], saved[512];
  Rig rig;
  rig_open(&rig,
           (RigSpec){.model = fixture_path(model, sizeof model, "models", c->model),
                     .adapter = fixture_path(adapter, sizeof adapter, "peft", c->adapter),
                     .score = c->score},
           nothing, NULL);
  float *score = c->score ? rig_host(&rig, rig.head.weight) : NULL;
  saved_path(saved, sizeof saved, "adapter", c->name);
  rig_check(lora_save(&rig.adapter, score, rig.model.spec.hidden, (ScoreZero){0}, (LoraBase){model, NULL},
                      saved, &rig.compute, &error),
            &error);
  free(score);
  rig_close(&rig);
}

int main(void) {
  static Case models[] = {
      {.name = "llama", .model = "llama", .same = "llama"},
      {.name = "llama3", .model = "llama3", .same = "llama3"},
      {.name = "llama_linear", .model = "llama_linear", .same = "llama_linear"},
      {.name = "mistral", .model = "mistral", .same = "mistral"},
      {.name = "qwen2", .model = "qwen2", .same = "qwen2"},
      {.name = "qwen2_window", .model = "qwen2_window", .same = "qwen2_window"},
      {.name = "qwen3", .model = "qwen3", .same = "qwen3"},
      {.name = "gpt_neox", .model = "gpt_neox", .same = "gpt_neox"},
      {.name = "gpt_neox_sequential", .model = "gpt_neox_sequential", .same = "gpt_neox_sequential"},
      {.name = "gpt2", .model = "gpt2", .same = "gpt2"},
      {.name = "gpt2_bare", .model = "gpt2_bare", .same = "gpt2_bare"},
      {.name = "llama_score", .model = "llama_score", .same = "llama_score", .score = true},
      {.name = "gpt2_score", .model = "gpt2_score", .same = "gpt2_score", .score = true},
      {.name = "llama_score_alone",
       .model = "llama_score",
       .same = "llama_score",
       .score = true,
       .no_padding = true},
      {.name = "llama_bf16", .model = "llama", .same = "llama_bf16", .dtype = DTYPE_BF16},
      {.name = "llama_qv", .model = "llama", .adapter = "llama_qv"},
      {.name = "llama_all", .model = "llama", .adapter = "llama_all"},
      {.name = "llama_pattern", .model = "llama", .adapter = "llama_pattern"},
      {.name = "gpt2_c_attn", .model = "gpt2", .adapter = "gpt2_c_attn"},
      {.name = "gpt2_all", .model = "gpt2", .adapter = "gpt2_all"},
      {.name = "gpt_neox_rslora", .model = "gpt_neox", .adapter = "gpt_neox_rslora"},
      {.name = "cls_llama", .model = "llama", .adapter = "cls_llama", .score = true},
      {.name = "llama_tables", .model = "llama", .adapter = "llama_tables"},
      {.name = "llama_carried", .model = "llama", .adapter = "llama_carried"},
      {.name = "llama_saved", .model = "llama", .adapter = "llama_saved"},
      {.name = "qwen2_embed", .model = "qwen2", .adapter = "qwen2_embed"},
      {.name = "qwen2_head", .model = "qwen2", .adapter = "qwen2_head"},
      {.name = "qwen2_tied", .model = "qwen2", .adapter = "qwen2_tied"},
      {.name = "qwen2_saved", .model = "qwen2", .adapter = "qwen2_saved"},
      {.name = "qwen2_saved_tied", .model = "qwen2", .adapter = "qwen2_saved_tied"},
      {.name = "gpt2_tables", .model = "gpt2", .adapter = "gpt2_tables"},
      {.name = "gpt2_saved", .model = "gpt2", .adapter = "gpt2_saved"},
      {.name = "cls_llama_saved", .model = "llama", .adapter = "cls_llama_saved", .score = true},
  };
  enum { COUNT = sizeof models / sizeof *models };
  static char names[2 * COUNT][64];
  struct CMUnitTest tests[2 * COUNT];
  size_t count = 0;
  for (size_t i = 0; i < COUNT; i++) {
    Case *c = &models[i];
    snprintf(names[count], sizeof names[0], "%s %s", c->adapter ? "merged" : "model", c->name);
    tests[count] = (struct CMUnitTest){names[count], test_save, NULL, NULL, c};
    count++;
    if (!c->adapter) continue;
    snprintf(names[count], sizeof names[0], "adapter %s", c->name);
    tests[count] = (struct CMUnitTest){names[count], test_save_adapter, NULL, NULL, c};
    count++;
  }
  return _cmocka_run_group_tests("parity/saved", tests, count, open_folder, close_folder);
}
