/* The backend table: a missing operation is a link error. */
#include "compute/cuda/cuda.h"

static const Backend table = {
    .name = "cuda",
    .narrow_activations = true,
    .nf4_layout = NF4_LAYOUT_TILES,
    .table_unit = 64,
    .open = cuda_open,
    .close = cuda_close,
    .arena = cuda_arena,
    .arena_free = cuda_arena_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .memory = cuda_memory,
    .host_arena = cuda_host_arena,
    .host_arena_free = cuda_host_arena_free,
    .offload = cuda_offload,
    .prefetch = cuda_prefetch,
    .offload_wait = cuda_offload_wait,
    .offload_finish = cuda_offload_finish,
    .describe = cuda_describe,
    .record_begin = cuda_record_begin,
    .record_end = cuda_record_end,
    .replay = cuda_replay,
    .graph_free = cuda_graph_free,
    .graph_bytes = cuda_graph_bytes,
#define OP(op, parameters, arguments) .op = cuda_##op,
#include "compute/ops.def"
#undef OP
};

/* Dry runs call nothing else. */
static const Backend assumed = {
    .name = "cuda",
    .narrow_activations = true,
    .nf4_layout = NF4_LAYOUT_TILES,
    .table_unit = 64,
    .open = cuda_assumed_open,
    .close = cuda_assumed_close,
    .arena = cuda_assumed_arena,
    .memory = cuda_assumed_memory,
    .host_arena = cuda_assumed_arena,
    .describe = cuda_describe,
#define OP(op, parameters, arguments) .op = cuda_##op,
#include "compute/ops.def"
#undef OP
};

const Backend *const backend_cuda = &table;
const Backend *const backend_cuda_assumed = &assumed;
