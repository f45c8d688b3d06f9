/* drover bench: whole workloads beside other programs, in one call on one machine.
 *
 * A workload (workload.c) is measured on our side by the program that a user runs (ours.c), and on a peer's by tools/bench/peer.py,
 * a process that loads once and then measures whenever it is asked (peer.c). All sides take turns. What others took of the
 * cores meanwhile is measured too (load.c); a measurement that was disturbed is made again. The floor is the least time that the
 * products and the reading of memory take at the rates of this machine, measured in the same call (floor.c). All figures are
 * tokens/s. The result is one JSON object (report.c), of which the table is made. */
#ifndef TOOLS_BENCH_BENCH_H
#define TOOLS_BENCH_BENCH_H

#include "base/cores.h"
#include "base/json.h"
#include "base/log.h"
#include "base/option.h"
#include "scoring/child.h"
#include "train/config.h"

typedef struct BenchConfig {
  char *model, *python, *out;
  OptionStrings workloads, peers;
  double seconds;
  int64_t rounds, repeat, threads;
} BenchConfig;

/* -- workload.c ----------------------------------------------------------------------------------------- */

typedef enum WorkKind { WORK_SFT, WORK_REWARD, WORK_PPO, WORK_DECODE, WORK_PREFILL, WORK_ROLLOUT } WorkKind;
enum { MOST_PEERS = 2 };

typedef struct Workload {
  const char *name;
  WorkKind kind;
  bool lora;           /* training: r 8 on all linears, instead of all weights */
  const char *weights; /* f32, bf16, int8, nf4 */
  const char *needs;   /* feature of the processor without which it is left out, or NULL */
  int64_t batch;       /* texts, pairs or prompts at once */
  int64_t length;      /* tokens of each */
  int64_t answer;      /* tokens sampled after each prompt */
  int64_t times;       /* in one measurement: updates, or batches after each other */
  const char *peers[MOST_PEERS];
  const char *about; /* for the table's legend and the page */
} Workload;

extern const Workload workloads[];
extern const size_t workload_count;
extern const char *const peer_names[]; /* ends with NULL */
/* model.quantize of such weights; where it is not none, the tables are in 8 bits and activations F32. */
ModelQuantize weights_quantize(const char *weights);

/* Whether a list names what there is: ERROR_USAGE with the nearest name. key: "--workload". */
NODISCARD bool names_check(const OptionStrings *list, const char *const *known, size_t count, const char *key,
                           Error *error);
bool names_have(const OptionStrings *list, const char *name);

/* -- load.c --------------------------------------------------------------------------------------------- */

/* What ran on the cores that we may use, from load_begin to load_end. */
typedef struct Load {
  double began, busy, own, group; /* clock; processor seconds: of the cores, ours, of the control group */
} Load;

/* child: of a process whose time is ours although it has not ended, or 0. */
Load load_begin(const Cores *cores, pid_t child);
/* The share of the cores that others had, 0 to 1: what was busy and not ours, or what our control group used up or was denied of
 * its quota, whichever is more. */
double load_others(const Load *load, const Cores *cores, pid_t child);
/* Largest resident set of a process so far, bytes; 0 when it is gone. */
size_t process_peak(pid_t pid);

/* -- the call ------------------------------------------------------------------------------------------- */

typedef struct Bench {
  const BenchConfig *config;
  Log *log;
  Cores cores;
  int threads;
  char *scratch; /* a directory for all that is made */
  char *model;   /* directory; what the user named, or a tiny one in scratch; owned */
  char *judge;   /* reward model, made when it is needed; owned */
  double product_f32, product_bf16, memory; /* ceilings: FLOP/s, bytes/s */
  json_t *peers;                            /* by name: {"version"} or {"lacks"} */
} Bench;

/* False, with the error of the signal, when one came. */
NODISCARD bool bench_goes_on(Error *error);

/* A side of a workload, and what was measured of it. */
enum { MOST_RUNS = 25 };
typedef struct Side {
  const char *name;
  int count;
  double rates[MOST_RUNS], others[MOST_RUNS]; /* tokens/s; shares */
  size_t peak;                                /* bytes */
  Error problem;                              /* code 0, or why there is nothing */
} Side;

/* -- ours.c --------------------------------------------------------------------------------------------- */

/* A tiny model in scratch, for those who name none. */
NODISCARD bool ours_make_model(Bench *bench, Error *error);
/* Data of the workload, and what has to be made beforehand; into scratch. */
NODISCARD bool ours_prepare(Bench *bench, const Workload *work, Error *error);
/* One measurement: tokens/s. */
NODISCARD bool ours_measure(Bench *bench, const Workload *work, double *rate, size_t *peak, Error *error);

/* -- peer.c --------------------------------------------------------------------------------------------- */

typedef struct Peer {
  Child child;
} Peer;

/* Fills bench->peers: of each peer that was asked for, its version, or what it lacks. */
NODISCARD bool peers_look(Bench *bench, Error *error);
/* Starts one and has it load. What is wrong with a peer is `problem`, and no error of ours: errors are of memory. */
NODISCARD bool peer_start(Peer *peer, const Bench *bench, const char *name, const Workload *work,
                          Error *problem, Error *error);
NODISCARD bool peer_measure(Peer *peer, double *rate, Error *problem, Error *error);
void peer_end(Peer *peer);

/* -- floor.c -------------------------------------------------------------------------------------------- */

NODISCARD bool ceilings_measure(Bench *bench, json_t *out, Error *error);
/* Tokens/s when nothing but products and reading took time, at the ceilings. */
NODISCARD bool floor_rate(const Bench *bench, const Workload *work, double *rate, Error *error);

/* -- report.c ------------------------------------------------------------------------------------------- */

enum { QUIET_PERCENT = 5 }; /* of the cores: what others may have of an undisturbed measurement */

/* The processor's name and features, cores, quota, memory, compiler; a new reference. */
json_t *machine_describe(const Bench *bench);
bool machine_has(const char *feature);    /* as /proc/cpuinfo names it */
double median(double *values, int count); /* which it puts in order; 0 of none */
/* Figures of a side: of its quiet runs, or, marked as disturbed, of all; a new reference. */
json_t *side_json(const Side *side);
bool side_measured(const Side *side);
double side_median(const Side *side);
/* The table for people, from the whole result. */
NODISCARD bool report_table(const json_t *result, Buffer *out, Error *error);

#endif
