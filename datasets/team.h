/* Inside datasets/ only: encoders that share a batch of records, each a run of neighbours, so that what they make can be put one
 * behind the other: the file is the same for every number of threads. */
#ifndef DATASETS_TEAM_H
#define DATASETS_TEAM_H

#include "datasets/encode.h"

/* A record to be encoded. */
typedef struct TeamItem {
  json_t *root; /* owned until the batch is encoded */
  Record record;
  RecordPlace place;
} TeamItem;

typedef struct TeamWorker {
  Encoder encoder;
  Error error; /* of the first of its records that could not be encoded */
} TeamWorker;

typedef struct Team {
  TeamWorker *workers;
  TeamItem *items;
  size_t worker_count, item_count, item_capacity;
} Team;

NODISCARD bool team_open(Team *team, const DatasetOptions *options, Error *error);
/* Room for the next record, which counts as soon as `item_count` does; NULL: the batch is full. */
TeamItem *team_next(Team *team);
/* Encodes the batch, writes what comes of it and lets go of it. The error is that of the first record in the file that has one. */
NODISCARD bool team_encode(Team *team, DatasetFormat format, CacheWriter *writer, Error *error);
/* Adds what all workers counted. */
void team_counts(const Team *team, DatasetCounts *counts);
void team_close(Team *team);

#endif
