/* Broken files of weights: mutate ROUNDS FILE ...
 *
 * Each file is read as it is, torn at every place (of long files: at some), and with ROUNDS changes that a counted random number decides, so the same ones
 * in every run: bits flipped, numbers put in the place of others, bytes taken out, doubled or copied elsewhere. weights.c says what must
 * come of it, within 2 seconds and a gigabyte. Prints how many were read and refused. */
#include "tests/fuzz/weights.h"

#include "base/file.h"
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

typedef struct Totals {
  size_t read, refused;
  double longest; /* seconds of the processor */
} Totals;

/* A copy of just that size, so that the sanitizer sees a byte too far; counted. */
static void try_bytes(Totals *totals, const char *data, size_t size) {
  Error error = {0};
  const clock_t started = clock();
  const bool ok = weights_try((const uint8_t *)data, size, &error);
  const double seconds = (double)(clock() - started) / CLOCKS_PER_SEC;
  if (seconds > totals->longest) totals->longest = seconds;
  if (ok)
    totals->read++;
  else
    totals->refused++;
}

typedef struct Dice {
  RandomKey key;
  uint64_t sample, position;
} Dice;

static size_t roll(Dice *dice, size_t below) {
  const double uniform = (double)random_uniform(dice->key, dice->sample, dice->position++);
  const size_t value = (size_t)(uniform * (double)below);
  return value < below ? value : below - 1;
}

/* A number where another one stood: lengths, counts and offsets are 1 to 8 bytes. */
static void put_number(Dice *dice, Buffer *bytes) {
  static const uint64_t numbers[] = {
      0,          1,          2,          7,          0x7f,           0xff,
      0x100,      0xffff,     0x7fffffff, 0x80000000, 0xffffffff,     0x100000000,
      1ull << 40, 1ull << 62, 1ull << 63, UINT64_MAX, UINT64_MAX - 7, 0x7ffffffffffffff8};
  const uint64_t number = numbers[roll(dice, sizeof numbers / sizeof *numbers)];
  const size_t width = (size_t)1 << roll(dice, 4);
  if (bytes->size < width) return;
  memcpy(bytes->data + roll(dice, bytes->size - width + 1), &number, width);
}

/* A stretch from one place to another, over what is there or between it. */
static void copy_stretch(Dice *dice, Buffer *bytes, bool insert) {
  Error error = {0};
  const size_t length = 1 + roll(dice, bytes->size < 64 ? bytes->size : 64);
  const size_t from = roll(dice, bytes->size - length + 1), to = roll(dice, bytes->size - length + 1);
  char stretch[64];
  memcpy(stretch, bytes->data + from, length);
  if (insert) {
    ASSERT(buffer_append(bytes, stretch, length, &error)); /* for the room */
    memmove(bytes->data + to + length, bytes->data + to, bytes->size - to - length);
  }
  memcpy(bytes->data + to, stretch, length);
}

static void take_out(Dice *dice, Buffer *bytes) {
  const size_t length = 1 + roll(dice, bytes->size < 16 ? bytes->size : 16),
               at = roll(dice, bytes->size - length + 1);
  memmove(bytes->data + at, bytes->data + at + length, bytes->size - at - length);
  bytes->size -= length;
}

static void change(Dice *dice, Buffer *bytes) {
  switch (roll(dice, 6)) {
    case 0:
    case 1:
      bytes->data[roll(dice, bytes->size)] ^= (char)(1 << roll(dice, 8));
      break;
    case 2:
      put_number(dice, bytes);
      break;
    case 3:
      copy_stretch(dice, bytes, false);
      break;
    case 4:
      copy_stretch(dice, bytes, true);
      break;
    default:
      take_out(dice, bytes);
  }
}

static void try_file(Totals *totals, const Buffer *file, uint64_t number, size_t rounds) {
  Error error = {0};
  Buffer bytes = {0};
  try_bytes(totals, file->data, file->size);
  for (size_t cut = 0; cut < file->size; cut += 1 + file->size / 512) try_bytes(totals, file->data, cut);
  for (size_t round = 0; round < rounds; round++) {
    Dice dice = {.key = random_key(number, RANDOM_INIT), .sample = round};
    buffer_clear(&bytes);
    ASSERT(buffer_append(&bytes, file->data, file->size, &error));
    const size_t changes = 1 + roll(&dice, 4);
    for (size_t i = 0; i < changes && bytes.size > 0; i++) change(&dice, &bytes);
    try_bytes(totals, bytes.data, bytes.size);
  }
  buffer_free(&bytes);
}

int main(int count, char **arguments) {
  if (count < 3) {
    fprintf(stderr, "usage: mutate ROUNDS FILE ...\n");
    return 2;
  }
  const size_t rounds = (size_t)atol(arguments[1]);
  Totals totals = {0};
  for (int i = 2; i < count; i++) {
    Error error = {0};
    Buffer file = {0};
    if (!file_read(arguments[i], &file, &error)) {
      fprintf(stderr, "%s\n", error.message);
      return 1;
    }
    const size_t read = totals.read, refused = totals.refused;
    try_file(&totals, &file, (uint64_t)i, rounds);
    printf("%-40.40s %zu read, %zu refused\n", path_name(arguments[i]), totals.read - read,
           totals.refused - refused);
    buffer_free(&file);
  }
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("%zu files read, %zu refused, the longest took %.3f s, %ld MB at the peak\n", totals.read,
         totals.refused, totals.longest, usage.ru_maxrss >> 10);
  /* Either answer alone would mean that nothing was tried. */
  const bool tried = totals.read > 0 && totals.refused > 0;
  return tried && totals.longest < 2 && usage.ru_maxrss < 1 << 20 ? 0 : 1;
}
