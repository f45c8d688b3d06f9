/* bench: Drover's speed on whole workloads, beside other programs in the same call. */
#include "base/file.h"
#include "model/weights.h"
#include "tools/bench/bench.h"
#include "train/program.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* clang-format off */
static const Option options[] = {
    ROW_STRING("model", BenchConfig, model, NULL, "the model: a directory or a name; without it a tiny one is made", .names = OPTION_NAMES_MODEL),
    ROW_STRINGS("workload", BenchConfig, workloads, NULL, "of sft_lora, sft_full, sft_full_bf16, reward, decode_1, decode_8, decode_32 (and these with _bf16, _int8 or _nf4), prefill_256, prefill_64x32, rollout, ppo; without it all"),
    ROW_STRINGS("peer", BenchConfig, peers, NULL, "beside whom: torch, transformers, peft, trl, llama.cpp"),
    ROW_STRING("python", BenchConfig, python, "python3", "the Python that has the peers", .when = "peer"),
    ROW_FLOAT("seconds", BenchConfig, seconds, "10", 0, 86400, "all sides of a workload are measured in turn for so long"),
    ROW_INT("rounds", BenchConfig, rounds, "3", 1, MOST_RUNS, "but at least so often each"),
    ROW_INT("repeat", BenchConfig, repeat, "2", 0, 100, "how often a measurement is made again that others disturbed"),
    ROW_INT("threads", BenchConfig, threads, "0", 0, 4096, "CPU threads of each side; 0 = all cores"),
    ROW_STRING("out", BenchConfig, out, NULL, "file for the result as JSON, as --json prints it", .names = OPTION_NAMES_PATH),
};
/* clang-format on */

/* -- signals ---------------------------------------------------------------------------------------------- */

/* One that stops the call is noted, and looked at between measurements and while a peer is waited for, so that nothing is left behind. A
 * second one ends the process at once. */
static volatile sig_atomic_t stopped;

static void note_signal(int number) {
  stopped = number;
}

static void note_signals(void) {
  const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction action = {.sa_handler = note_signal, .sa_flags = (int)SA_RESETHAND};
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaction(numbers[i], &action, NULL);
}

bool bench_goes_on(Error *error) {
  if (!stopped) return true;
  const ErrorCode code = stopped == SIGINT ? ERROR_SIGINT : stopped == SIGHUP ? ERROR_SIGHUP : ERROR_SIGTERM;
  return error_set(error, code, "interrupted by signal %d (%s)", (int)stopped, strsignal(stopped));
}

/* -- one workload ----------------------------------------------------------------------------------------- */

typedef struct Measured {
  Side ours, theirs[MOST_PEERS];
  Peer peers[MOST_PEERS];
  int count; /* of peers */
} Measured;

static void say_problem(const Bench *bench, const Workload *work, const Side *side) {
  if (side->problem.code)
    log_warning(bench->log, "%s, %s: %s", work->name, side->name, side->problem.message);
}

/* The peers of the workload that were asked for, loaded; of those that cannot be, why. */
static bool start_peers(Bench *bench, const Workload *work, Measured *m, Error *error) {
  for (int i = 0; i < MOST_PEERS && work->peers[i]; i++) {
    if (!names_have(&bench->config->peers, work->peers[i])) continue;
    Side *side = &m->theirs[m->count];
    *side = (Side){.name = work->peers[i]};
    const json_t *known = json_object_get(bench->peers, side->name);
    const char *lacks = json_string_value(json_object_get(known, "lacks"));
    if (lacks) {
      error_set(&side->problem, ERROR_DATA, "%s", lacks); /* said already */
    } else {
      log_info(bench->log, "%s: %s loads", work->name, side->name);
      if (!peer_start(&m->peers[m->count], bench, side->name, work, &side->problem, error)) return false;
      say_problem(bench, work, side);
    }
    m->count++;
  }
  return true;
}

/* One measurement of a side; again while others disturb it, but not for ever. */
static bool measure_side(Bench *bench, const Workload *work, Side *side, Peer *peer, Error *error) {
  const pid_t child = peer ? peer->child.pid : 0;
  if (side->problem.code || side->count == MOST_RUNS) return true;
  double rate = 0, others = INFINITY; /* of the least disturbed attempt */
  for (int64_t attempt = 0; attempt <= bench->config->repeat && !(others * 100 <= QUIET_PERCENT); attempt++) {
    double now = 0;
    size_t peak = 0;
    const Load load = load_begin(&bench->cores, child);
    if (!peer) {
      (void)!ours_measure(bench, work, &now, &peak, &side->problem);
    } else if (peer_measure(peer, &now, &side->problem, error)) {
      peak = process_peak(child);
    } else {
      return false;
    }
    if (!bench_goes_on(error)) return false;
    say_problem(bench, work, side);
    if (side->problem.code) return true;
    const double share = load_others(&load, &bench->cores, child);
    if (share < others) {
      others = share;
      rate = now;
    }
    if (peak > side->peak) side->peak = peak;
  }
  side->rates[side->count] = rate;
  side->others[side->count++] = others;
  log_info(bench->log, "%s: %s %.4g tokens/s%s", work->name, side->name, rate,
           others * 100 > QUIET_PERCENT ? ", disturbed" : "");
  return true;
}

static bool measure_all(Bench *bench, const Workload *work, Measured *m, Error *error) {
  const double began = time_monotonic();
  bool ok = true;
  for (int64_t round = 0; ok && round < MOST_RUNS; round++) {
    if (round >= bench->config->rounds && time_monotonic() - began >= bench->config->seconds) break;
    ok = measure_side(bench, work, &m->ours, NULL, error);
    if (m->ours.problem.code) break;
    for (int i = 0; ok && i < m->count; i++)
      ok = measure_side(bench, work, &m->theirs[i], &m->peers[i], error);
  }
  return ok;
}

static json_t *measured_json(const Workload *work, const Measured *m, double floor) {
  const double ours = side_median(&m->ours);
  json_t *peers = json_array();
  for (int i = 0; i < m->count; i++) {
    json_t *peer = side_json(&m->theirs[i]);
    if (side_measured(&m->theirs[i]) && side_measured(&m->ours))
      json_object_set_new(peer, "ratio", json_real(ours / side_median(&m->theirs[i])));
    json_array_append_new(peers, peer);
  }
  json_t *out = json_pack("{s:s,s:s,s:s,s:o,s:o}", "name", work->name, "about", work->about, "unit",
                          "tokens/s", "ours", side_json(&m->ours), "peers", peers);
  if (floor > 0) json_object_set_new(out, "floor", json_real(floor));
  if (floor > 0 && side_measured(&m->ours)) json_object_set_new(out, "reached", json_real(ours / floor));
  return out;
}

static bool run_workload(Bench *bench, const Workload *work, json_t *results, Error *error) {
  Measured *m = memory_zeroed(1, sizeof *m);
  if (!m) return error_out_of_memory(error, "workload", sizeof *m);
  m->ours.name = "drover";
  double floor = 0;
  bool ok = true;
  if (work->needs && !machine_has(work->needs)) {
    error_set(&m->ours.problem, ERROR_DEVICE, "left out: needs %s", work->needs);
  } else if (!floor_rate(bench, work, &floor, error)) {
    ok = false;
  } else {
    if (!ours_prepare(bench, work, &m->ours.problem)) say_problem(bench, work, &m->ours);
    ok = m->ours.problem.code || (start_peers(bench, work, m, error) && measure_all(bench, work, m, error));
  }
  for (int i = 0; i < m->count; i++) peer_end(&m->peers[i]);
  ok = ok && (json_array_append_new(results, measured_json(work, m, floor)) == 0 ||
              error_out_of_memory(error, "result", 0));
  memory_free(m);
  return ok;
}

/* -- the call --------------------------------------------------------------------------------------------- */

/* A peer that no workload of this call is measured with was named in vain. */
static bool check_use(const BenchConfig *config, Error *error) {
  for (size_t k = 0; k < config->peers.count; k++) {
    bool used = false;
    for (size_t i = 0; i < workload_count; i++) {
      const Workload *work = &workloads[i];
      if (config->workloads.count && !names_have(&config->workloads, work->name)) continue;
      for (int p = 0; p < MOST_PEERS && work->peers[p]; p++)
        used |= strcmp(work->peers[p], config->peers.items[k]) == 0;
    }
    if (!used) {
      return error_set(error, ERROR_USAGE, "--peer: '%s' has none of the workloads of --workload",
                       config->peers.items[k]);
    }
  }
  return true;
}

static bool check_names(const BenchConfig *config, Error *error) {
  const char *names[64];
  size_t peers = 0;
  ASSERT(workload_count <= 64);
  for (size_t i = 0; i < workload_count; i++) names[i] = workloads[i].name;
  while (peer_names[peers]) peers++;
  return names_check(&config->workloads, names, workload_count, "--workload", error) &&
         names_check(&config->peers, peer_names, peers, "--peer", error) && check_use(config, error);
}

static bool open_bench(Bench *bench, Error *error) {
  const BenchConfig *config = bench->config;
  char threads[16];
  if (!cores_read(&bench->cores, "", error)) return false;
  bench->threads = config->threads ? (int)config->threads : cores_threads(&bench->cores, 1);
  snprintf(threads, sizeof threads, "%d", bench->threads);
  setenv("OMP_NUM_THREADS", threads, 1); /* of every program that is started */
  bench->peers = json_object();
  bench->scratch = directory_temporary("bench", error);
  if (!bench->scratch || !bench->peers) return false;
  if (config->model) {
    bench->model = memory_copy_string(config->model);
    if (!bench->model) return error_out_of_memory(error, "path", 0);
  } else if (!ours_make_model(bench, error)) {
    return false;
  }
  return config->peers.count == 0 || peers_look(bench, error);
}

static void close_bench(Bench *bench) {
  Error ignored = {0};
  if (bench->scratch) (void)!directory_remove_all(bench->scratch, &ignored);
  memory_free(bench->scratch);
  memory_free(bench->model);
  memory_free(bench->judge);
  json_decref(bench->peers);
}

static bool describe_model(const Bench *bench, json_t *result, Error *error) {
  Compute compute;
  Arena arena;
  Model model = {0};
  double count = 0;
  if (!compute_open(&compute, DEVICE_CPU, 1, error)) return false;
  arena_init_dry(&arena, "weights");
  const bool ok =
      model_open(&model, bench->model, (WeightFormat){.dtype = DTYPE_F32}, &compute, &arena, error);
  for (int i = 0; ok && i < model.tensor_count; i++) count += (double)tensor_count(model.tensors[i].value);
  model_free(&model);
  compute_close(&compute);
  return ok && (json_object_set_new(result, "model",
                                    json_pack("{s:s,s:I}", "name",
                                              bench->config->model ? path_name(bench->model) : "a tiny one",
                                              "parameters", (json_int_t)count)) == 0 ||
                error_out_of_memory(error, "result", 0));
}

static bool run_all(Bench *bench, json_t *result, Error *error) {
  const BenchConfig *config = bench->config;
  char date[32];
  const time_t now = time(NULL);
  struct tm utc;
  strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  json_t *ceilings = json_object(), *list = json_array();
  bool ok =
      json_object_set_new(result, "date", json_string(date)) == 0 &&
      json_object_set_new(result, "version", json_string(DROVER_VERSION)) == 0 &&
      json_object_set_new(result, "machine", machine_describe(bench)) == 0 &&
      json_object_set_new(result, "settings",
                          json_pack("{s:f,s:I,s:I}", "seconds", config->seconds, "rounds",
                                    (json_int_t)config->rounds, "repeat", (json_int_t)config->repeat)) == 0;
  if (!ok) error_out_of_memory(error, "result", 0);
  ok = ok && describe_model(bench, result, error) && ceilings_measure(bench, ceilings, error);
  for (size_t i = 0; ok && i < workload_count; i++) {
    if (config->workloads.count == 0 || names_have(&config->workloads, workloads[i].name))
      ok = bench_goes_on(error) && run_workload(bench, &workloads[i], list, error);
  }
  json_object_set(result, "peers", bench->peers);
  json_object_set_new(result, "ceilings", ceilings);
  json_object_set_new(result, "workloads", list);
  return ok;
}

/* As json_file_write does it, to a file that was opened before anything was measured. */
static bool write_result(FileWriter *file, const json_t *result, Error *error) {
  char *text = json_dumps(result, JSON_INDENT(2));
  const bool ok = text ? file_writer_write(file, text, strlen(text), error) &&
                             file_writer_write(file, "\n", 1, error) && file_writer_commit(file, error)
                       : error_out_of_memory(error, "result", 0);
  free(text);
  return ok;
}

/* Workloads that were through before a signal, or another end, are not lost. The error stays that of the end. */
static void keep_measured(const Bench *bench, FileWriter *file, const json_t *result) {
  const size_t count = json_array_size(json_object_get(result, "workloads"));
  Error failed = {0};
  if (count == 0) return;
  if (write_result(file, result, &failed))
    log_info(bench->log, "%s: the %zu workloads that were measured before", bench->config->out, count);
  else
    log_warning(bench->log, "%s", failed.message);
}

static bool run(const ProgramCall *call, ProgramResult *out, Error *error) {
  const BenchConfig *config = call->config;
  Bench bench = {.config = config, .log = call->log};
  if (!check_names(config, error)) return false;
  note_signals();
  json_t *result = json_object();
  FileWriter file = {0};
  bool ok = (result || error_out_of_memory(error, "result", 0)) &&
            (!config->out || file_writer_open(&file, config->out, error)) && open_bench(&bench, error);
  if (ok && !call->check) {
    ok = run_all(&bench, result, error);
    if (!ok && config->out) keep_measured(&bench, &file, result);
    ok = ok && json_append_text(&out->json, result, error) && report_table(result, &out->text, error) &&
         (!config->out || write_result(&file, result, error));
  }
  if (config->out) file_writer_close(&file);
  json_decref(result);
  close_bench(&bench);
  return ok;
}

int main(int argc, char **argv) {
  const Program program = {
      .name = "bench",
      .summary = "Speed of whole workloads on this machine's processor, beside other programs.",
      .options = options,
      .option_count = sizeof options / sizeof *options,
      .config_size = sizeof(BenchConfig),
      .run = run,
      .example =
          "  drover bench --model my-model --workload sft_lora,decode_8 \\\n"
          "    --peer peft,llama.cpp --python venv/bin/python\n"};
  return program_run(&program, argc, argv, stdout, stderr);
}
