/* Preferences in micro-batches: the answers to a prompt stay together, each a sequence of its own, and numbers are put down
 * to the right record. */
#include "tests/unit/datasets_world.h"
#include "train/zero_point.h"

#include <math.h>

enum { GROUP = 4 };

static const char data[] =
    "{\"prompt\": \"a\", \"responses\": [\"Hi.\", \"the sea and the ships\", \"Go.\"], \"scores\": [2, 3, "
    "1]}\n"
    "{\"prompt\": \"b\", \"responses\": [\"Hello.\", \"Bye.\"], \"scores\": [1, 2]}\n"
    "{\"prompt\": \"\", \"responses\": [\"a\", \"c\", \"b\", \"d\"], \"scores\": [1, 2, 2, 0]}\n"
    "{\"prompt\": \"See you.\", \"responses\": [\"Be short.\", \"No.\"], \"scores\": [1, 0]}\n";

static Dataset open_data(World *world) {
  Dataset dataset;
  Error error = {0};
  char path[512];
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "answers.jsonl"));
  write_text(path, data);
  options.chat = &world->plain;
  if (!dataset_open_file(&dataset, path, &options, &error)) fail_msg("%s", error.message);
  return dataset;
}

static void open_micro(Microbatches *micro, const Dataset *dataset, int64_t tokens, bool packing) {
  Error error = {0};
  assert_true(microbatches_init(micro, GROUP, (int64_t)dataset->most_sequences, tokens, scores_pack, &error));
  micro->draw = 10;
  for (uint64_t i = 0; i < dataset->count; i++) micro->refs[i] = dataset_reference(dataset, i);
  microbatches_take(micro, dataset, (int64_t)dataset->count);
  if (!microbatches_plan(micro, (int64_t)dataset->count, packing, &error)) fail_msg("%s", error.message);
}

/* Every answer is in the batch, with its prompt before it and read at its end; the dropout of a sequence is that of its place
 * among all, wherever it is packed. */
static void look_through(const Microbatches *micro, int *seen) {
  const Batch *batch = &micro->packer.batch;
  int64_t sequence = 0;
  for (int64_t k = 0; k < micro->packer.count; k++) {
    const Example *example = microbatches_example(micro, k);
    seen[micro->packer.items[k]]++;
    for (int a = 0; a < example->answer_count; a++, sequence++) {
      const Sequence answer = answer_of(example, a);
      const int32_t *offset = &batch->offsets[sequence];
      assert_int_equal(offset[1] - offset[0], answer.count);
      assert_memory_equal(batch->ids + offset[0], answer.ids, (size_t)answer.count * sizeof(int));
      assert_int_equal(micro->packer.last[sequence], offset[1] - 1);
      for (int32_t t = offset[0]; t < offset[1]; t++) {
        assert_int_equal(batch->positions[t], t - offset[0]);
        assert_int_equal(batch->draws[t], (10 + micro->packer.items[k]) * 4 + a);
      }
    }
  }
  assert_int_equal(sequence, batch->sequences);
}

static void answers_stay_together(void **state) {
  World *world = *state;
  Dataset dataset = open_data(world);
  assert_int_equal(dataset.count, GROUP);
  assert_int_equal(dataset.most_sequences, 4);
  for (int way = 0; way < 3; way++) {
    Microbatches micro;
    int seen[GROUP] = {0};
    open_micro(&micro, &dataset, way == 0 ? 1000 : (int64_t)dataset.longest, way < 2);
    assert_true(way == 0 ? micro.packer.plan.count == 1 : micro.packer.plan.count > 1);
    if (way == 2) assert_int_equal(micro.packer.plan.count, GROUP);
    for (int b = 0; b < micro.packer.plan.count; b++) {
      microbatches_fill(&micro, b);
      look_through(&micro, seen);
    }
    for (int i = 0; i < GROUP; i++) assert_int_equal(seen[i], 1);
    microbatches_free(&micro);
  }
  dataset_close(&dataset);
}

/* The record of the first score that is not finite, whichever answer it is of. */
static void the_broken_record(void **state) {
  World *world = *state;
  Dataset dataset = open_data(world);
  static const uint64_t lines[] = {1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4};
  Microbatches micro;
  open_micro(&micro, &dataset, 1000, true);
  microbatches_fill(&micro, 0);
  assert_int_equal(micro.packer.batch.sequences, sizeof lines / sizeof *lines);
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    micro.packer.values[i] = NAN;
    assert_int_equal(microbatches_broken(&micro, packer_last(&micro.packer))->line, lines[i]);
    micro.packer.values[i] = 0;
  }
  microbatches_free(&micro);
  dataset_close(&dataset);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(answers_stay_together),
                                     cmocka_unit_test(the_broken_record)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
