/* Trainees over tiny checkpoints: what is trained, merged, copied, saved, and carried through a checkpoint. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/head.h"
#include "tests/support/fixture.h"
#include "tests/temporary.h"
#include "train/plan.h"
#include "train/token_loss.h"

#include <stdlib.h>
#include <string.h>

enum { TOKENS = 12, VOCAB_MOST = 4096 };

/* One trainee with everything that a step needs, opened as a stage does: planned, then real. */
typedef struct Lab {
  Compute compute;
  TrainMemory memory;
  Model base;
  Trainee trainee;
  Pass pass;
  Packer packer;
  const char *model, *merge;
  TraineeSpec spec;
  bool narrow; /* weights in bf16 */
  float logits[VOCAB_MOST];
} Lab;

static const OptimizerSpec adamw = {
    .kind = OPTIMIZER_ADAMW, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .clip = 1};

static void must(bool ok, const Error *error) {
  if (!ok) fail_msg("%s", error->message);
}

static void fill(Lab *lab) {
  int32_t ids[TOKENS];
  uint8_t mask[TOKENS];
  Error error = {0};
  for (int i = 0; i < TOKENS; i++) ids[i] = (i * 7 + 3) % 11;
  memset(mask, 1, sizeof mask);
  lab->packer.lengths[0] = TOKENS; /* two sequences of one item */
  must(packer_plan(&lab->packer, 1, true, &error), &error);
  packer_begin(&lab->packer, 0);
  token_loss_pack(&lab->packer, &(Example){.ids = ids, .loss = mask, .count = 7});
  token_loss_pack(&lab->packer, &(Example){.ids = ids + 7, .loss = mask, .count = TOKENS - 7});
  assert_int_equal(lab->packer.row_count, TOKENS - 2);
}

/* Loss of the batch, its gradient added. */
static double learn(Lab *lab) {
  size_t mark = arena_mark(&lab->memory.step);
  fill(lab);
  pass_forward(&lab->pass, &lab->compute, lab->trainee.predictor.model,
               predictor_adapter(&lab->trainee.predictor), &lab->packer.batch, PASS_TRAIN, &lab->memory.step);
  double sum = token_loss_backward(&lab->packer, &lab->pass, 0.1);
  if (predictor_has_head(&lab->trainee.predictor)) {
    int32_t rows[] = {6};
    float value[1] = {0};
    score_values(&lab->pass, &lab->trainee.predictor.head, token_rows(rows, NULL, 1), value);
    score_values_backward(&lab->pass, &lab->trainee.predictor.head, token_rows(rows, NULL, 1), (float[]){1});
  }
  pass_backward(&lab->pass);
  arena_release(&lab->memory.step, mark);
  return sum;
}

static const float *logits(Lab *lab) {
  size_t mark = arena_mark(&lab->memory.step);
  int32_t rows[] = {TOKENS - 1};
  fill(lab);
  pass_forward(&lab->pass, &lab->compute, lab->trainee.predictor.model,
               predictor_adapter(&lab->trainee.predictor), &lab->packer.batch, PASS_INFERENCE,
               &lab->memory.step);
  lm_logits(&lab->pass, token_rows(rows, NULL, 1), lab->logits);
  arena_release(&lab->memory.step, mark);
  return lab->logits;
}

static void open_parts(Lab *lab) {
  Error error = {0};
  must(base_open(&lab->base, lab->model, lab->merge,
                 (WeightFormat){.dtype = lab->narrow ? DTYPE_BF16 : DTYPE_F32}, &lab->compute, &lab->memory,
                 &error),
       &error);
  must(trainee_open(&lab->trainee, &lab->spec, &lab->base, &lab->compute, &lab->memory, &error), &error);
  must(pass_init(&lab->pass, &lab->base, &error), &error);
}

static void close_parts(Lab *lab) {
  pass_free(&lab->pass);
  trainee_close(&lab->trainee);
  base_close(&lab->base);
}

static bool step(Lab *lab, Error *error) {
  double norm;
  return trainee_step(&lab->trainee, &lab->compute, 1e-2, &norm, error);
}

static void open_lab_as(Lab *lab, const char *model, const char *merge, TraineeSpec spec, bool narrow) {
  Error error = {0};
  *lab = (Lab){.model = model, .merge = merge, .spec = spec, .narrow = narrow};
  must(compute_open(&lab->compute, DEVICE_CPU, 2, &error), &error);
  must(packer_init(&lab->packer, 1, 2, TOKENS, &error), &error);
  plan_begin(&lab->memory, &lab->compute);
  open_parts(lab);
  assert_true(lab->base.spec.vocab <= VOCAB_MOST);
  learn(lab);
  logits(lab);
  must(step(lab, &error), &error);
  close_parts(lab);
  MemoryPlan plan = {0};
  must(plan_end(&plan, &lab->memory, &lab->compute, &error), &error);
  must(train_memory_allocate(&lab->memory, &lab->compute, NULL, &error), &error);
  open_parts(lab);
}

static void open_lab(Lab *lab, const char *model, const char *merge, TraineeSpec spec) {
  open_lab_as(lab, model, merge, spec, false);
}

static void close_lab(Lab *lab) {
  close_parts(lab);
  packer_free(&lab->packer);
  train_memory_free(&lab->memory, &lab->compute);
  compute_close(&lab->compute);
}

static const char *model_path(const char *name) {
  static char out[512];
  return fixture_path(out, sizeof out, "models", name);
}

static const char *adapter_path(const char *name) {
  static char out[512];
  return fixture_path(out, sizeof out, "peft", name);
}

static TraineeSpec full_spec(void) {
  return (TraineeSpec){.predictor = {.name = "policy", .seed = 5}, .optimizer = adamw};
}

static LoraSpec qv = {
    .r = 2, .alpha = 4, .targets = (char *[]){(char *)"q_proj", (char *)"v_proj"}, .target_count = 2};

static TraineeSpec adapter_spec(const char *from) {
  return (TraineeSpec){
      .predictor = {.name = "policy", .adapted = true, .adapter = from, .lora = &qv, .seed = 5},
      .optimizer = adamw};
}

/* Each kind learns: the loss falls, and the base moves only when it is what is trained. */
static void check_learning(TraineeSpec spec, const char *merge) {
  Error error = {0};
  Lab lab;
  open_lab(&lab, model_path("llama"), merge, spec);
  size_t bytes = tensor_bytes(lab.base.tensors[0].value);
  void *before = malloc(bytes);
  memcpy(before, lab.base.tensors[0].value.data, bytes);
  double first = 0, last = 0;
  for (int i = 0; i < 8; i++) {
    last = learn(&lab);
    if (i == 0) first = last;
    must(step(&lab, &error), &error);
  }
  assert_true(last < first - 0.05);
  bool moved = memcmp(before, lab.base.tensors[0].value.data, bytes) != 0;
  assert_int_equal(moved, !spec.predictor.adapted);
  free(before);
  close_lab(&lab);
}

static void every_kind_learns(void **state) {
  (void)state;
  check_learning(full_spec(), NULL);
  check_learning(full_spec(), adapter_path("llama_qv"));
  check_learning(adapter_spec(NULL), NULL);
  check_learning(adapter_spec(adapter_path("llama_qv")), NULL);
}

static void check_merging(const char *model, const char *adapter) {
  Lab with, merged;
  open_lab(&with, model_path(model), NULL, adapter_spec(adapter_path(adapter)));
  open_lab(&merged, model_path(model), adapter_path(adapter), full_spec());
  int64_t vocab = with.base.spec.vocab;
  assert_near("logits", logits(&merged), logits(&with), vocab, 2e-5);
  close_lab(&merged);
  open_lab(&merged, model_path(model), NULL, full_spec()); /* and without it they differ */
  assert_true(largest_difference(logits(&merged), logits(&with), vocab) > 1e-3);
  close_lab(&merged);
  close_lab(&with);
}

static void a_merged_base_gives_the_adapters_logits(void **state) {
  (void)state;
  check_merging("llama", "llama_all");
  check_merging("llama", "llama_pattern");
  check_merging("gpt2", "gpt2_all"); /* transposed weights */
  check_merging("gpt_neox", "gpt_neox_rslora");
}

/* What is saved, opened again as the next stage would, gives the same logits to the bit. */
static void check_saving(TraineeSpec spec, const char *folder) {
  Error error = {0};
  Lab lab, again;
  Temporary temporary;
  char *path;
  float expected[VOCAB_MOST];
  temporary_open(&temporary);
  open_lab(&lab, model_path("llama"), NULL, spec);
  for (int round = 0; round < 2; round++) { /* the second one replaces the first */
    learn(&lab);
    must(step(&lab, &error), &error);
    must(trainee_save(&lab.trainee, lab.model, NULL, temporary.directory, &lab.compute, &path, &error),
         &error);
    assert_string_equal(path_name(path), folder);
    if (round == 0) memory_free(path);
  }
  memcpy(expected, logits(&lab), sizeof expected);
  bool full = !spec.predictor.adapted;
  open_lab(&again, full ? path : model_path("llama"), NULL, full ? full_spec() : adapter_spec(path));
  assert_memory_equal(logits(&again), expected, (size_t)again.base.spec.vocab * sizeof(float));
  memory_free(path);
  close_lab(&again);
  close_lab(&lab);
  StringList names = {0};
  must(directory_list(temporary.directory, &names, &error), &error);
  assert_int_equal(names.count, 1); /* nothing unfinished is left */
  string_list_free(&names);
  temporary_close(&temporary);
}

static void what_is_saved_opens_again(void **state) {
  (void)state;
  check_saving(full_spec(), "model");
  check_saving(adapter_spec(NULL), "adapter");
}

static bool exchange(Lab *lab, int64_t at, Temporary *folder, bool loading, Error *error) {
  Checkpoint c;
  bool found = true, ok;
  Log log;
  log_init(&log, stderr, LOG_ERROR + 1);
  if (loading) {
    ok = checkpoint_find(&c, folder->directory, "sft", (Settings){"{}", "{}"}, &lab->compute, &log, &found,
                         error) &&
         found && trainee_state(&lab->trainee, &c, error);
  } else {
    ok = checkpoint_begin(&c, "sft", at, "{}", &lab->compute, error) &&
         trainee_state(&lab->trainee, &c, error) &&
         checkpoint_commit(&c, folder->directory, (CheckpointKeep){2, 0}, error);
  }
  checkpoint_close(&c);
  return ok;
}

/* Two steps, a checkpoint, two more; then another process's trainee goes on from the checkpoint: same bits. */
static void check_resuming(TraineeSpec spec) {
  Error error = {0};
  Lab lab, again;
  Temporary folder;
  temporary_open(&folder);
  open_lab(&lab, model_path("llama"), NULL, spec);
  for (int i = 0; i < 4; i++) {
    learn(&lab);
    must(step(&lab, &error), &error);
    if (i == 1) must(exchange(&lab, 2, &folder, false, &error), &error);
  }
  TraineeSpec other = spec;
  other.predictor.seed = 99; /* everything comes from the checkpoint */
  open_lab(&again, model_path("llama"), NULL, other);
  must(exchange(&again, 0, &folder, true, &error), &error);
  assert_int_equal(again.trainee.optimizer.step, 2);
  for (int i = 2; i < 4; i++) {
    learn(&again);
    must(step(&again, &error), &error);
  }
  for (size_t i = 0; i < lab.trainee.parameters.count; i++) {
    Tensor a = lab.trainee.parameters.items[i].value, b = again.trainee.parameters.items[i].value;
    assert_memory_equal(a.data, b.data, tensor_bytes(a));
  }
  close_lab(&again);
  close_lab(&lab);
  temporary_close(&folder);
}

static void a_checkpoint_carries_everything(void **state) {
  (void)state;
  check_resuming(full_spec());
  TraineeSpec spec = adapter_spec(NULL);
  spec.predictor.score_head = true;
  spec.predictor.head_from = model_path("llama");
  check_resuming(spec);
}

/* Opening must fail, already in the dry run, with a message that has `text`. */
static void refuse(const char *model, TraineeSpec spec, const char *text) {
  Lab lab;
  Error error = {0};
  assert_true(compute_open(&lab.compute, DEVICE_CPU, 1, &error));
  plan_begin(&lab.memory, &lab.compute);
  must(base_open(&lab.base, model, NULL, (WeightFormat){.dtype = DTYPE_F32}, &lab.compute, &lab.memory,
                 &error),
       &error);
  assert_false(trainee_open(&lab.trainee, &spec, &lab.base, &lab.compute, &lab.memory, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, text));
  base_close(&lab.base);
  MemoryPlan plan = {0};
  Error ignored = {0};
  must(plan_end(&plan, &lab.memory, &lab.compute, &ignored), &ignored);
  compute_close(&lab.compute);
}

static void unit_rows_of_a_head_are_not_trained(void **state) {
  (void)state;
  char normalized[512], plain[512];
  fixture_path(normalized, sizeof normalized, "arch", "baichuan2_7b");
  fixture_path(plain, sizeof plain, "arch", "baichuan_7b");
  refuse(normalized, full_spec(), "full fine-tuning of this model is not supported: the rows of its LM head");
  LoraSpec head = {.r = 2, .alpha = 4, .targets = (char *[]){(char *)"lm_head"}, .target_count = 1};
  TraineeSpec on_head = adapter_spec(NULL);
  on_head.predictor.lora = &head;
  refuse(normalized, on_head, "lm_head");
  Lab lab;
  LoraSpec down = {.r = 2, .alpha = 4, .targets = (char *[]){(char *)"down_proj"}, .target_count = 1};
  TraineeSpec adapted = adapter_spec(NULL);
  adapted.predictor.lora = &down;
  open_lab(&lab, normalized, NULL, adapted);
  close_lab(&lab);
  open_lab(&lab, plain, NULL, full_spec());
  close_lab(&lab);
}

/* Qwen's code changes its mathematics there; Llama's goes on. */
static void texts_end_where_positions_do(void **state) {
  (void)state;
  const struct {
    const char *name;
    int64_t positions;
    bool end;
  } cases[] = {{"qwen", 48, true}, {"gpt2", 40, true}, {"llama", 64, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char path[512];
    Lab lab;
    Error error = {0};
    fixture_path(path, sizeof path, "arch", cases[i].name);
    open_lab(&lab, path, NULL, full_spec());
    assert_true(base_set_length(&lab.base, cases[i].positions, &lab.compute, NULL, &error));
    assert_int_equal(base_set_length(&lab.base, cases[i].positions + 1, &lab.compute, NULL, &error),
                     !cases[i].end);
    assert_true(!cases[i].end || strstr(error.message, "has positions for"));
    close_lab(&lab);
  }
}

/* Element i of a parameter's fp32 value: of its master copy where it has one. */
static float precise(const Lab *lab, size_t parameter, int64_t i) {
  return ((const float *)lab->trainee.optimizer.tensors[parameter].p.data)[i];
}

/* The dtype of the weights is none of the checkpoint's: what bf16 began goes on in fp32, and the other way round. */
static void a_checkpoint_goes_on_in_another_dtype(void **state) {
  (void)state;
  for (int narrow = 0; narrow < 2; narrow++) {
    Error error = {0};
    Lab lab, again;
    Temporary folder;
    temporary_open(&folder);
    open_lab_as(&lab, model_path("llama"), NULL, full_spec(), narrow == 1);
    learn(&lab);
    must(step(&lab, &error), &error);
    must(exchange(&lab, 1, &folder, false, &error), &error);
    open_lab_as(&again, model_path("llama"), NULL, full_spec(), narrow == 0);
    must(exchange(&again, 1, &folder, true, &error), &error);
    assert_int_equal(again.trainee.optimizer.step, 1);
    for (size_t p = 0; p < lab.trainee.parameters.count; p++) {
      const Tensor value = again.trainee.parameters.items[p].value;
      for (int64_t i = 0; i < tensor_count(value); i++) {
        assert_true(precise(&lab, p, i) == precise(&again, p, i));
        if (narrow == 0) {
          assert_int_equal(((const uint16_t *)value.data)[i], bf16_from_float(precise(&again, p, i)));
        }
      }
    }
    close_lab(&again);
    close_lab(&lab);
    temporary_close(&folder);
  }
}

static void heads_come_from_where_they_are(void **state) {
  (void)state;
  Lab lab;
  TraineeSpec spec = adapter_spec(adapter_path("cls_llama"));
  spec.predictor.score_head = true;
  spec.predictor.head_from = model_path("llama");
  spec.predictor.head_must_exist = true;
  open_lab(&lab, model_path("llama"), NULL, spec); /* the adapter's */
  assert_int_equal(lab.trainee.parameters.count % 2, 1);
  close_lab(&lab);
  spec.predictor.adapter = NULL; /* neither has one */
  refuse(model_path("llama"), spec, "score.weight");
}

/* A model or adapter of another kind than the trainee's is refused by what it is. */
static void kinds_are_told_apart(void **state) {
  (void)state;
  TraineeSpec scores = adapter_spec(adapter_path("llama_qv"));
  scores.predictor.score_head = scores.predictor.head_must_exist = true;
  refuse(model_path("llama"), scores, "a language model's adapter (CAUSAL_LM) without a score head");
  refuse(model_path("llama"), adapter_spec(adapter_path("cls_llama")), "a reward model's adapter (SEQ_CLS)");
  refuse(model_path("llama_score"), adapter_spec(NULL), "has no LM head and only scores");
  refuse(model_path("llama_score"), full_spec(), "has no LM head and only scores");
}

/* An adapter to go on with has its own rank, alpha and targets; dropout is the configuration's. */
static void a_given_adapter_takes_only_the_dropout(void **state) {
  (void)state;
  Lab lab;
  LoraSpec configured = qv;
  configured.r = 9;
  configured.alpha = 16;
  configured.dropout = 0.25f;
  TraineeSpec spec = adapter_spec(adapter_path("llama_all"));
  spec.predictor.lora = &configured;
  open_lab(&lab, model_path("llama"), NULL, spec);
  const LoraSpec *found = &lab.trainee.predictor.adapter.spec;
  assert_int_equal(found->r, 3);
  assert_true(found->alpha == 5 && found->dropout == 0.25f);
  assert_true(lab.trainee.parameters.count > 2 * configured.target_count * (size_t)lab.base.spec.layers);
  close_lab(&lab);
}

/* One base, two adapters: what one learns leaves the other as it was. */
static void adapters_share_a_base(void **state) {
  (void)state;
  Lab lab;
  Error error = {0};
  open_lab(&lab, model_path("llama"), NULL, adapter_spec(NULL));
  TrainMemory more;
  Predictor other;
  PredictorSpec spec = adapter_spec(NULL).predictor;
  spec.seed = 6;
  train_memory_dry(&more);
  must(predictor_open(&other, &spec, &lab.base, PREDICTOR_FROZEN, NULL, &lab.compute, &more, &error), &error);
  predictor_close(&other);
  must(train_memory_allocate(&more, &lab.compute, NULL, &error), &error);
  must(predictor_open(&other, &spec, &lab.base, PREDICTOR_FROZEN, NULL, &lab.compute, &more, &error), &error);
  learn(&lab);
  must(step(&lab, &error), &error);
  bool learnt = false;
  for (int id = 0; id < other.adapter.count; id++) {
    Tensor a = other.adapter.pairs[id].b.value, b = lab.trainee.predictor.adapter.pairs[id].b.value;
    if (tensor_is_none(a)) continue;
    for (int64_t i = 0; i < tensor_count(a); i++) assert_true(((const float *)a.data)[i] == 0);
    learnt |= memcmp(a.data, b.data, tensor_bytes(a)) != 0;
  }
  assert_true(learnt);
  predictor_close(&other);
  train_memory_free(&more, &lab.compute);
  close_lab(&lab);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_kind_learns),
      cmocka_unit_test(unit_rows_of_a_head_are_not_trained),
      cmocka_unit_test(texts_end_where_positions_do),
      cmocka_unit_test(a_merged_base_gives_the_adapters_logits),
      cmocka_unit_test(what_is_saved_opens_again),
      cmocka_unit_test(a_checkpoint_carries_everything),
      cmocka_unit_test(a_checkpoint_goes_on_in_another_dtype),
      cmocka_unit_test(heads_come_from_where_they_are),
      cmocka_unit_test(kinds_are_told_apart),
      cmocka_unit_test(a_given_adapter_takes_only_the_dropout),
      cmocka_unit_test(adapters_share_a_base),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
