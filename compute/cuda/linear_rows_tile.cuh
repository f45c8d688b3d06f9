/* How long a tile of the linear of rollouts would take on a card, by estimate. */
#ifndef COMPUTE_CUDA_LINEAR_ROWS_TILE_CUH
#define COMPUTE_CUDA_LINEAR_ROWS_TILE_CUH

#include "compute/cuda/linear_rows.cuh"

typedef struct TileChoice {
  int outputs, rows;
  int ahead;          /* inputs of which a block has asked for the weights before it needs them */
  int blocks, shared; /* that registers leave room for on a multiprocessor; bytes of a block */
  void (*launch)(Compute *c, const RowsCall &call, bool transposed);
} TileChoice;

/* What a multiprocessor does in a clock, by the data sheets of the cards named: ESTIMATES, none has been measured. Only time depends on
 * them: the result is the same to the bit with every tile. */
typedef struct CardRates {
  int capability;  /* this one and newer ones */
  double products; /* BF16 multiply-adds with F32 sums, by mma.sync */
  double cache;    /* bytes of the second-level cache */
  double memory;   /* bytes of its share of the memory */
  double latency;  /* clocks from asking the memory to having */
  int shared;      /* bytes of shared memory of a multiprocessor, not in a clock */
} CardRates;

static const CardRates card_rates[] = {{80, 1024, 33, 13.4, 700, 164 << 10},  /* A100, 80 GB */
                                       {86, 256, 18, 6.7, 850, 100 << 10},    /* RTX 3090 */
                                       {89, 256, 16, 3.1, 1400, 100 << 10},   /* RTX 4090 */
                                       {90, 1024, 24, 14.5, 1400, 228 << 10}, /* H100 SXM */
                                       {100, 1024, 24, 28, 1500, 228 << 10},  /* B200 */
                                       {120, 256, 17, 4.4, 1400, 100 << 10}}; /* RTX 5090 */
/* Of every card, estimates too: bytes that a multiprocessor takes in in a clock, and that it draws from memory when the others
 * draw nothing (on an H100 it takes 0.8 of them to draw all that there is). */
static const double INTAKE = 50, ALONE = 18;
/* Shared memory that the driver keeps of every block. */
enum { RESERVED_SHARED = 1024 };

static const CardRates &rates_of(int capability) {
  int best = 0;
  for (int i = 1; i < (int)(sizeof card_rates / sizeof *card_rates); i++)
    if (capability >= card_rates[i].capability) best = i;
  return card_rates[best];
}

static int resident_blocks(const TileChoice &tile, const CardRates &card) {
  const int fit = card.shared / (tile.shared + RESERVED_SHARED);
  return fit < 1 ? 1 : fit < tile.blocks ? fit : tile.blocks;
}

/* An estimate, in clocks. Per input the longest of: what the busiest multiprocessor multiplies, and takes in; what the cache and the
 * memory deliver; and the bytes in flight, that is, the inputs that a block has asked for come once in a latency. Then the start of
 * a block, which waits for its first bytes; a second block beside it hides that of all but the first. */
static double tile_time(const TileChoice &tile, const CardRates &card, int multiprocessors, int64_t rows,
                        int64_t outputs, int64_t inputs) {
  const int resident = resident_blocks(tile, card);
  const int64_t blocks = divide_up(outputs, tile.outputs) * divide_up(rows, tile.rows);
  const int64_t rounds = divide_up(blocks, (int64_t)multiprocessors * resident);
  const double busiest = (double)divide_up(blocks, multiprocessors), all = multiprocessors;
  const double used = (double)(blocks < multiprocessors ? blocks : multiprocessors);
  const double height = (double)(tile.outputs < outputs ? tile.outputs : outputs),
               width = (double)(tile.rows < rows ? tile.rows : rows), bytes = 2 * (height + width);
  const double multiply = busiest * tile.outputs * tile.rows / card.products,
               intake = busiest * bytes / INTAKE;
  const double cache = (double)blocks * bytes / (all * card.cache);
  const double memory = 2 * (double)outputs / fmin(all * card.memory, used * ALONE);
  const double flight = (double)rounds * card.latency / tile.ahead;
  const double input = fmax(fmax(fmax(multiply, intake), fmax(cache, memory)), flight);
  return (double)inputs * input + (double)(resident > 1 ? 1 : rounds) * card.latency;
}

#endif
