/* Examples of a data set, worked through in micro-batches: what the supervised stages and PPO's ptx term share. */
#ifndef TRAIN_MICROBATCHES_H
#define TRAIN_MICROBATCHES_H

#include "compute/comm.h"
#include "datasets/dataset.h"
#include "train/packer.h"

/* Adds the sequences of an example to a micro-batch, and asks for the rows that its loss is read at. */
typedef void PackExample(Packer *packer, const Example *example);

typedef struct Microbatches {
  ExampleRef *refs;  /* [group] filled by the caller: of all that the ranks work through together */
  Example *examples; /* [group] by microbatches_take or the caller; after microbatches_share this rank's */
  int64_t *numbers;  /* [group] of each example among all: into refs */
  int64_t group;     /* examples at once, at most */
  uint64_t draw; /* number of the first example among all that the run trains on, each epoch anew: dropout */
  int64_t
      draws; /* numbers for the sequences of each: as many as an example that is trained on has, at most */
  PackExample *pack;
  Packer packer;
} Microbatches;

/* sequences: of one example, at most; tokens: of a micro-batch. */
NODISCARD bool microbatches_init(Microbatches *micro, int64_t group, int64_t sequences, int64_t tokens,
                                 PackExample *pack, Error *error);
void microbatches_free(Microbatches *micro);

/* Looks up the first `count` refs. */
void microbatches_take(Microbatches *micro, const Dataset *data, int64_t count);
/* Of the first `count` examples keeps those that are this rank's (train/share.h), *own in number. With one rank all. */
NODISCARD bool microbatches_share(Microbatches *micro, int64_t count, const Comm *comm, int64_t *own,
                                  Error *error);
/* Plans the micro-batches of the first `count` examples; micro->packer.plan.count is their number. */
NODISCARD bool microbatches_plan(Microbatches *micro, int64_t count, bool packing, Error *error);
/* Packs micro-batch `index` of the plan. */
void microbatches_fill(Microbatches *micro, int index);
/* The example of number `k` in the micro-batch at hand, and its number among all. */
const Example *microbatches_example(const Microbatches *micro, int64_t k);
int64_t microbatches_number(const Microbatches *micro, int64_t k);
/* The first example of the micro-batch at hand for which packer.values, as read at the rows, are not finite; the first of
 * all when they are. */
const Example *microbatches_broken(const Microbatches *micro, TokenRows read);
/* Its place in a text that says what was not finite: ", first at FILE:LINE". */
void microbatches_place(const Example *example, const Dataset *data, char *out, size_t size);

#endif
