/* bench_load: how long loading a model takes and how much memory, beside reading its files alone.
 *
 * Files are read once before anything is measured, so both times are of the page cache unless the files do not fit there; with
 * --cold they are taken out of it before either, and both times are of the disk. */
#include "base/file.h"
#include "base/process.h"
#include "model/source.h"
#include "model/weights.h"
#include "train/device.h"
#include "train/program.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct LoadConfig {
  char *model;
  int dtype;
  int64_t threads;
  bool cold;
} LoadConfig;

static const char *const dtypes[] = {"f32", "bf16", NULL};
static const DType dtype_values[] = {DTYPE_F32, DTYPE_BF16};

static const Option options[] = {
    ROW_STRING_REQUIRED("model", LoadConfig, model, "the model"),
    ROW_CHOICE("dtype", LoadConfig, dtype, "f32", dtypes, "type of the weights in memory"),
    ROW_INT("threads", LoadConfig, threads, "0", 0, 4096, "CPU threads; 0 = all cores"),
    ROW_BOOL("cold", LoadConfig, cold, "false", "from the disk: files leave the page cache first")};

/* What all threads of this process have computed so far, in seconds: it depends less than the clock on what else the machine does. */
static double processor_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const struct timeval *user = &usage.ru_utime, *kernel = &usage.ru_stime;
  return (double)(user->tv_sec + kernel->tv_sec) + 1e-6 * (double)(user->tv_usec + kernel->tv_usec);
}

typedef struct Times {
  double clock, processor;
} Times;

static Times times_now(void) {
  return (Times){time_monotonic(), processor_seconds()};
}

static Times times_since(Times start) {
  const Times now = times_now();
  return (Times){now.clock - start.clock, now.processor - start.processor};
}

/* Reads a file as cat does; adds its size. `evict`: takes it out of the page cache instead. */
static bool read_file(const char *path, bool evict, double *bytes, Error *error) {
  enum { PIECE = 1 << 17 };
  /* As cat's: the kernel copies quicker to where a page begins. */
  static _Alignas(4096) char piece[PIECE];
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = file < 0 ? -1 : 1;
  if (file >= 0 && evict) got = posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  while (got > 0) {
    got = read(file, piece, PIECE);
    if (got > 0) *bytes += (double)got;
  }
  if (file >= 0) close(file);
  return got == 0 || error_set(error, ERROR_FILE, "cannot read %s", path);
}

/* The files of the weights, each once. */
static bool read_files(const char *model, bool evict, double *bytes, Times *times, Error *error) {
  WeightFiles files;
  if (!model_weights_open(&files, model, error)) return false;
  bool ok = true;
  StringList seen = {0};
  const Times started = times_now();
  for (size_t i = 0; ok && i < files.count; i++) {
    bool known = false;
    for (size_t k = 0; k < seen.count; k++) known |= strcmp(seen.items[k], files.entries[i].path) == 0;
    if (!known)
      ok = string_list_push(&seen, files.entries[i].path, error) &&
           read_file(files.entries[i].path, evict, bytes, error);
  }
  *times = times_since(started);
  string_list_free(&seen);
  weight_files_close(&files);
  return ok;
}

static bool load(Model *model, const LoadConfig *config, Compute *compute, Arena *arena, Error *error) {
  Arena dry;
  arena_init_dry(&dry, "weights");
  const DType dtype = dtype_values[config->dtype];
  if (!model_open(model, config->model, (WeightFormat){.dtype = dtype}, compute, &dry, error)) return false;
  model_free(model);
  return arena_init(arena, "weights", dry.peak, error) &&
         model_open(model, config->model, (WeightFormat){.dtype = dtype}, compute, arena, error) &&
         model_read(model, config->model, compute, NULL, error);
}

static bool run(const ProgramCall *call, ProgramResult *result, Error *error) {
  const LoadConfig *config = call->config;
  Compute compute;
  Model model = {0};
  Arena arena = {0};
  double bytes = 0;
  Times reading;
  if (!compute_open(&compute, DEVICE_CPU, (int)config->threads, error)) return false;
  bool ok =
      read_files(config->model, config->cold, &bytes, &reading, error); /* into the cache, or out of it */
  bytes = 0;
  ok = ok && read_files(config->model, false, &bytes, &reading, error) &&
       (!config->cold || read_files(config->model, true, &bytes, &(Times){0}, error));
  const size_t before = device_peak(&compute);
  const Times started = times_now();
  ok = ok && load(&model, config, &compute, &arena, error);
  const Times loading = times_since(started);
  const size_t peak = device_peak(&compute) - before;
  if (ok)
    ok = buffer_format(
             &result->json, error,
             "{\"file_bytes\":%.0f,\"kept_bytes\":%zu,\"peak_bytes\":%zu,\"file_seconds\":%.4g,"
             "\"file_processor_seconds\":%.4g,\"load_seconds\":%.4g,\"load_processor_seconds\":%.4g}",
             bytes, arena.used, peak, reading.clock, reading.processor, loading.clock, loading.processor) &&
         buffer_format(&result->text, error,
                       "%.2f GB read in %.2f s (processor %.2f s), loaded in %.2f s (%.2f s); %.2f GB kept, "
                       "%.2f GB at the peak",
                       bytes * 1e-9, reading.clock, reading.processor, loading.clock, loading.processor,
                       (double)arena.used * 1e-9, (double)peak * 1e-9);
  model_free(&model);
  arena_free(&arena);
  compute_close(&compute);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {.name = "bench_load",
                           .summary = "Time and memory of loading a model, beside reading its files.",
                           .options = options,
                           .option_count = sizeof options / sizeof *options,
                           .config_size = sizeof(LoadConfig),
                           .run = run};
  return program_run(&program, argc, argv, stdout, stderr);
}
