/* Passes that are recorded (compute.h): a small model waits for the launches of its operations longer than for their arithmetic, and a graph
 * is one launch. Forward and backward are a graph each; the heads between them, whose rows vary, run as ever, and
 * what a pass is given (ids, positions, draws, offsets) is uploaded before it.
 *
 * A graph has its sizes and addresses in it. Batches are therefore padded to few sizes (pass_records_pad), and a record is of all that
 * decides sizes and addresses (PassKey). The first pass of a key runs as it is, so that whatever it needs is loaded
 * and chosen; the second is recorded, and replayed from then on. Where that fails, or there is no memory or place left, passes run
 * as they are: nothing is ever dropped for another, since who goes round in more keys than have room would record for ever.
 *
 * The bits are those of the same padded passes without records. Beside batches that are not padded, sums over tokens (gradients
 * of weights, norms, biases) have zeros more, and a library may choose another algorithm for the other size.
 *
 * Not recorded: passes beside which something is moved, since that is not work of the compute stream alone (activations or gradients in
 * host memory, weights in slices), and a backward that is watched. */
#ifndef MODEL_PASS_RECORDS_H
#define MODEL_PASS_RECORDS_H

#include "model/batch.h"
#include "model/model.h"

/* Padded sizes of tokens up to the capacity, and keys, at most. */
enum { PASS_SIZES = 8, PASS_RECORDS = 64 };

/* Nothing else may decide what a pass launches, or where that reads and writes. */
typedef struct PassKey {
  const Model *model;
  const LoraSet *adapter;
  int mode; /* PassMode */
  int64_t tokens, sequences;
  const char *step; /* where the step arena's memory for the pass begins */
  const char *scratch;
} PassKey;

typedef struct PassGraph {
  bool ran;
  int failures;
  ComputeGraph *graph; /* or NULL */
} PassGraph;

typedef struct PassRecord {
  PassKey key;
  PassGraph forward, backward;
} PassRecord;

typedef struct PassRecords {
  Compute *compute;
  size_t most, bytes, largest; /* for graphs; of those there are; of one of them */
  int count;
  PassRecord list[PASS_RECORDS];
  Batch padded;
} PassRecords;

/* For batches of up to `tokens`, on a backend that can record. bytes: of memory beside the arenas; a last graph may exceed it by as much
 * as it is larger than the others. */
NODISCARD bool pass_records_init(PassRecords *records, Compute *compute, int64_t tokens, size_t bytes,
                                 Error *error);
void pass_records_free(PassRecords *records); /* also of zeroed ones */

/* The batch with sequences of no use behind its own: its first token again and again, at that token's position, up to the next eighth of
 * the batch's capacity (64 tokens at least), and after that empty ones. They are causal neighbours of nothing, and no loss reads
 * them. Valid until the next call. */
const Batch *pass_records_pad(PassRecords *records, const Batch *batch);

/* The key's record, new or old; NULL when there is no place for a new one. */
PassRecord *pass_records_find(PassRecords *records, PassKey key);

/* Does the work of `body`, which puts operations on the device and takes memory from `step` (released by others): recorded, replayed
 * or as it is. follow: what it leaves on the host is wanted, so that with a replay it runs too, dry. */
void pass_records_run(PassRecords *records, PassGraph *graph, void (*body)(void *context), void *context,
                      Arena *step, bool follow);

#endif
