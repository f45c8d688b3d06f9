/* Forward for generation: rows of many sequences against a paged KV cache.
 *
 * A call takes N rows, each a token of some sequence at some position whose earlier positions are in the
 * cache already or come earlier in the same call: prefill chunks and single decode tokens mix freely. Runs
 * with compute->row_invariant set for its duration, so that a row's result does not depend on the other rows.
 */
#ifndef MODEL_DECODE_H
#define MODEL_DECODE_H

#include "model/model.h"

/* Keys and values of all layers; blocks are numbered across the pool, one table serves all layers. */
typedef struct KvCache {
  PagedCache *layers; /* [layer_count] host array; each has the same table */
  Tensor table;       /* [sequences, max_blocks] I32, device: the engine uploads it */
  int64_t layer_count, blocks, block_size, sequences, max_blocks;
} KvCache;

/* Bytes of one block over all layers, keys and values, with the scales of an I8 cache. */
int64_t kv_block_bytes(const ModelSpec *spec, int64_t block_size, DType dtype);
NODISCARD bool kv_cache_init(KvCache *cache, const ModelSpec *spec, int64_t blocks, int64_t block_size,
                             int64_t sequences, int64_t max_blocks, DType dtype, Arena *arena, Error *error);
void kv_cache_free(KvCache *cache); /* the host array; tensors belong to the arena */

/* The rows of a call: I32 tensors in device memory. */
typedef struct DecodeRows {
  Tensor ids;      /* [N] */
  Tensor sequence; /* [N] row of the block table */
  Tensor position; /* [N] */
  Tensor picked;   /* [P] rows (0 .. N-1) whose logits are wanted; none: all, in order */
  int64_t
      reach; /* blocks of a sequence that hold the positions, that is, all are below reach * block_size; 0: max_blocks */
} DecodeRows;

/* Runs the rows through the model and stores their keys and values. Then computes logits[P, V] (F32, after the
 * softcap) for the picked rows in the arena. Released by the caller. Operations alone, at addresses that depend
 * on the shapes and on the arena's mark: it may be recorded (compute.h). */
Tensor model_decode(Compute *compute, const Model *model, const LoraSet *adapter, KvCache *cache,
                    DecodeRows rows, Arena *arena);

#endif
