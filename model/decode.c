#include "model/decode.h"

#include "base/memory.h"
#include "model/head.h"

int64_t kv_block_bytes(const ModelSpec *spec, int64_t block_size, DType dtype) {
  const int64_t scale = dtype == DTYPE_I8 ? (int64_t)sizeof(float) : 0;
  const int64_t head = spec->head_size * (int64_t)dtype_size(dtype) + scale;
  return 2 * spec->layers * spec->kv_heads * block_size * head;
}

bool kv_cache_init(KvCache *cache, const ModelSpec *spec, int64_t blocks, int64_t block_size,
                   int64_t sequences, int64_t max_blocks, DType dtype, Arena *arena, Error *error) {
  *cache = (KvCache){.layer_count = spec->layers,
                     .blocks = blocks,
                     .block_size = block_size,
                     .sequences = sequences,
                     .max_blocks = max_blocks};
  cache->layers = memory_zeroed((size_t)spec->layers, sizeof *cache->layers);
  if (!cache->layers) return error_out_of_memory(error, "cache tables", sizeof *cache->layers);
  cache->table = tensor_new_2d(arena, DTYPE_I32, sequences, max_blocks);
  const int64_t shape[4] = {blocks, spec->kv_heads, block_size, spec->head_size};
  for (int64_t layer = 0; layer < spec->layers; layer++) {
    PagedCache *paged = &cache->layers[layer];
    Tensor pool = tensor_over(NULL, dtype, 4, shape);
    pool.data = arena_alloc(arena, tensor_bytes(pool));
    paged->keys = pool;
    pool.data = arena_alloc(arena, tensor_bytes(pool));
    paged->values = pool;
    if (dtype == DTYPE_I8) {
      paged->key_scales = tensor_new_3d(arena, DTYPE_F32, blocks, spec->kv_heads, block_size);
      paged->value_scales = tensor_new_3d(arena, DTYPE_F32, blocks, spec->kv_heads, block_size);
    }
    paged->table = cache->table;
  }
  return true;
}

void kv_cache_free(KvCache *cache) {
  memory_free(cache->layers);
  *cache = (KvCache){0};
}

/* Final norm and LM head of the picked rows alone. */
static Tensor picked_logits(const BlockContext *context, Tensor x, Tensor picked) {
  const Model *model = context->model;
  Compute *c = context->compute;
  Arena *arena = context->arena;
  const bool all = tensor_is_none(picked);
  const int64_t count = all ? x.dim[0] : picked.dim[0];
  const Tensor out = tensor_new_2d(arena, DTYPE_F32, count, model->spec.vocab);
  const size_t mark = arena_mark(arena);
  Tensor hidden = x;
  if (!all) {
    hidden = tensor_new_2d(arena, x.dtype, count, model->spec.hidden);
    op_gather_rows(c, hidden, x, picked);
  }
  FinishState finish;
  hidden = model_finish(context, hidden, &finish);
  head_logits(context, out, hidden);
  arena_release(arena, mark);
  return out;
}

Tensor model_decode(Compute *compute, const Model *model, const LoraSet *adapter, KvCache *cache,
                    DecodeRows rows, Arena *arena) {
  const bool was_invariant = compute->row_invariant;
  compute->row_invariant = true;
  BlockContext context = {.compute = compute,
                          .model = model,
                          .adapter = adapter,
                          .arena = arena,
                          .overwrite = true,
                          .positions = rows.position,
                          .caches = cache->layers,
                          .reach = rows.reach > 0 ? rows.reach : cache->max_blocks,
                          .sequence = rows.sequence};
  EmbedState embed;
  Tensor x = model_embed(&context, rows.ids, &embed);
  for (int layer = 0; layer < model->spec.layers; layer++) {
    BlockState state;
    x = block_forward(&context, layer, x, &state);
  }
  const Tensor logits = picked_logits(&context, x, rows.picked);
  compute->row_invariant = was_invariant;
  return logits;
}
