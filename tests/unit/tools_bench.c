/* drover bench: whose time on the cores it was, and what is counted of several runs. */
#include "tools/bench/bench.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void spin(double seconds) {
  for (const double began = time_monotonic(); time_monotonic() - began < seconds;) {
  }
}

/* A process that is not ours is seen, and is no more when it is named as ours; and so is our own time, and that of what has ended. Whatever
 * else runs on the machine, the difference is what it had. */
static void others_are_told_from_ours(void **state) {
  (void)state;
  Cores cores;
  Error error = {0};
  assert_true(cores_read(&cores, "", &error));
  const Load load = load_begin(&cores, 0);
  const pid_t stranger = fork();
  if (stranger == 0) {
    spin(30);
    _exit(0);
  }
  /* It has so much processor time by then, however many share the cores. */
  const double began = time_monotonic();
  const Load child = load_begin(&cores, stranger);
  while (load_begin(&cores, stranger).own - child.own < 0.5) {
    assert_true(time_monotonic() - began < 25);
    usleep(10000);
  }
  const double clock = time_monotonic() - load.began;
  const double as_other = load_others(&load, &cores, 0), as_ours = load_others(&load, &cores, stranger);
  kill(stranger, SIGKILL);
  waitpid(stranger, NULL, 0);
  assert_true(as_other > 0 && as_other <= 1);
  const double share = 0.5 / cores.count / clock;
  assert_true(as_other > 0.6 * share - 0.02 / clock);
  if (as_other < 1) assert_true(as_other - as_ours > 0.6 * share - 0.02 / clock);
}

static void our_own_time_is_ours(void **state) {
  (void)state;
  Cores cores;
  Error error = {0};
  assert_true(cores_read(&cores, "", &error));
  const Load load = load_begin(&cores, 0);
  const clock_t before = clock();
  while (clock() - before < CLOCKS_PER_SEC / 10) { /* however many share the cores */
    spin(0.01);
    assert_true(time_monotonic() - load.began < 25);
  }
  const Load now = load_begin(&cores, 0);
  const double used = (double)(clock() - before) / CLOCKS_PER_SEC;
  assert_true(fabs(now.own - load.own - used) < 0.05);
  assert_true(now.own - load.own < now.began - load.began + 0.05);
  assert_true(process_peak(getpid()) > 1u << 20);
  assert_int_equal(process_peak(0), 0);
}

static void quiet_runs_count(void **state) {
  (void)state;
  const Side mixed = {.name = "a", .count = 4, .rates = {10, 90, 30, 20}, .others = {0.01, 0.5, 0.05, 0}};
  const Side noisy = {.name = "b", .count = 2, .rates = {10, 20}, .others = {0.06, 0.5}};
  assert_float_equal(side_median(&mixed), 20, 1e-9);
  assert_float_equal(side_median(&noisy), 15, 1e-9);
  json_t *a = side_json(&mixed), *b = side_json(&noisy);
  assert_true(json_is_false(json_object_get(a, "disturbed")) &&
              json_is_true(json_object_get(b, "disturbed")));
  assert_float_equal(json_number_value(json_object_get(a, "least")), 10, 1e-9);
  assert_float_equal(json_number_value(json_object_get(a, "most")), 30, 1e-9);
  assert_int_equal(json_array_size(json_object_get(a, "runs")), 4);
  json_decref(a);
  json_decref(b);
}

static void features_are_whole_words(void **state) {
  (void)state;
  assert_true(machine_has("avx2"));
  assert_false(machine_has("avx2x"));
  assert_false(machine_has("vx2"));
}

static const Workload *workload(const char *name) {
  size_t i = 0;
  while (strcmp(workloads[i].name, name) != 0) i++;
  return &workloads[i];
}

/* Of a model of 2 blocks with 8448 parameters in linears, a head of 101 x 32, 4 query heads and 2 of keys and values, of 8: computed by
 * hand from the rules in docs/performance.md. */
static void floors_are_the_least_work(void **state) {
  (void)state;
  static const struct {
    const char *name;
    double product, memory, rate; /* product_bf16 is four times product */
  } cases[] = {
      {"sft_full", 1e9, 1, 4564.70932},
      {"sft_lora", 1e9, 1, 6847.06398},
      {"reward", 1e9, 1, 9964.92347},
      {"prefill_64x32", 1e9, 1, 26253.6099},
      {"rollout", 1e9, 1e18, 13391.5419},
      {"ppo", 1e9, 1e18, 1148.84954},
      {"decode_1", 1e18, 1e6, 9.51583435},
      {"decode_32", 1e9, 1e18, 15424.4817},
      {"decode_8_bf16", 1e18, 1e6, 33.7746555},
      {"decode_32_bf16", 1e9, 1e18, 4 * 15424.4817},
      {"decode_32_int8", 1e9, 1e18, 4 * 15424.4817},
      {"decode_32_nf4", 1e9, 1e18, 4 * 15424.4817},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    Bench bench = {.model = FIXTURES "/models/llama",
                   .product_f32 = cases[i].product,
                   .product_bf16 = 4 * cases[i].product,
                   .memory = cases[i].memory};
    double rate;
    if (!floor_rate(&bench, workload(cases[i].name), &rate, &error)) fail_msg("%s", error.message);
    if (fabs(rate / cases[i].rate - 1) > 1e-6)
      fail_msg("%s: %.9g, expected %.9g", cases[i].name, rate, cases[i].rate);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(others_are_told_from_ours), cmocka_unit_test(our_own_time_is_ours),
      cmocka_unit_test(quiet_runs_count),          cmocka_unit_test(features_are_whole_words),
      cmocka_unit_test(floors_are_the_least_work),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
