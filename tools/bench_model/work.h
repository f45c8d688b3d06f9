/* What bench_model can measure. Each work opens its state in the arenas of the run (dry first, for the plan),
 * then does equal steps. */
#ifndef TOOLS_BENCH_MODEL_WORK_H
#define TOOLS_BENCH_MODEL_WORK_H

#include "rollout/engine.h"
#include "train/device.h"
#include "train/trainee.h"

#include <jansson.h>

typedef struct BenchConfig {
  char *config;
  int work, dtype, cache_dtype;
  int64_t length, micro_batch_tokens, r, batch, new_tokens, steps;
  bool recompute;
  DeviceConfig device;
} BenchConfig;

typedef struct Bench Bench;

typedef struct BenchWork {
  bool (*open)(Bench *b, Error *error);                       /* after the model; dry or real */
  bool (*start)(Bench *b, Error *error);                      /* the weights have values now */
  bool (*step)(Bench *b, Error *error);                       /* ends with the device idle */
  double (*flops)(const Bench *b, double product_parameters); /* least operations of a step */
  void (*close)(Bench *b);                                    /* whatever of open was done */
} BenchWork;

extern const BenchWork bench_training, bench_decoding, bench_attention;

struct Bench {
  const BenchConfig *config;
  const BenchWork *work;
  Log *log;
  json_t *shape;
  Compute compute;
  TrainMemory memory;
  Model model;
  /* set by the works */
  double tokens;  /* in a step */
  double flops;   /* in a step */
  double bytes;   /* read in a step, at least; 0 when not the limit */
  double seconds; /* of the last step, where only part of it counts; else 0 */
  char more[256]; /* further members of the JSON object, each with a comma before it */
  /* training */
  Trainee trainee;
  LoraSpec lora;
  Pass pass;
  PassRecords records;
  Batch batch;
  int32_t *rows, *targets;
  float *gradient, *logprobs;
  int64_t row_count, passes;
  /* decoding */
  Engine engine;
  RolloutSample *samples;
  int32_t *prompt, *responses;
  EngineStats before;
  /* attention */
  Tensor q, k, v, out, lse, offsets, dout, dq, dk, dv;
};

#endif
