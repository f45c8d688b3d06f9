/* The backend table of this instruction set: a missing operation is a link error. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/vector.h"

#define BACKEND_JOIN_EXPANDED(isa) backend_cpu_##isa
#define BACKEND_JOIN(isa)          BACKEND_JOIN_EXPANDED(isa)

const Backend BACKEND_JOIN(CPU_ISA) = {
    .name = VEC == 16 ? "cpu (avx512)" : "cpu (avx2)",
    .host_memory = true,
    .nf4_layout = NF4_LAYOUT_ROWS,
    .table_unit = 1,
    .nf4_wide_scales = true,
    .open = CPU(open),
    .close = CPU(close),
    .arena = CPU(arena),
    .arena_free = CPU(arena_free),
    .upload = CPU(upload),
    .download = CPU(download),
    .memory = CPU(memory),
    .describe = CPU(describe),
#define OP(op, parameters, arguments) .op = CPU(op),
#include "compute/ops.def"
#undef OP
};
