/* Inside datasets/ only: questions and answers of the demo task, and the utility behind its preferences. */
#ifndef DATASETS_DEMO_ANSWER_H
#define DATASETS_DEMO_ANSWER_H

#include "base/random.h"

#include <stdbool.h>
#include <stddef.h>

/* Random numbers of one record: the n-th throw is a function of (seed, stream, record, n). */
typedef struct Dice {
  RandomKey key;
  uint64_t sample, position;
} Dice;

int dice_throw(Dice *dice, int sides); /* 0 .. sides-1 */

typedef struct DemoQuestion {
  int product, problem;
  const char *name; /* NULL when the customer gives none */
  char text[256];
} DemoQuestion;

void demo_question(Dice *dice, DemoQuestion *question);

/* What can be wrong with an answer; the first is nothing. */
typedef enum DemoFlaw {
  DEMO_GOOD,
  DEMO_CURT,          /* one step, no courtesy */
  DEMO_COLD,          /* every step, no courtesy */
  DEMO_INCOMPLETE,    /* courteous, a step or two missing */
  DEMO_WRONG_PRODUCT, /* another product named */
  DEMO_WRONG_PROBLEM, /* the steps of another problem */
  DEMO_RUDE,
  DEMO_RAMBLING, /* all right, with idle talk */
  DEMO_NO_STEPS,
  DEMO_FLAW_COUNT
} DemoFlaw;

typedef struct DemoAnswer {
  char text[512];
  double utility; /* see demo.h */
} DemoAnswer;

void demo_answer(Dice *dice, const DemoQuestion *question, DemoFlaw flaw, DemoAnswer *answer);

/* A text for pretraining: everyday sentences about the same things in the same words, sometimes with the
 * question, or with it and an answer of any kind as "user\n...\nassistant\n...". */
void demo_text(Dice *dice, const DemoQuestion *question, char *out, size_t size);

const char *demo_product_name(int product);
const char *demo_problem_name(int problem);
/* The steps that the problem needs; the return value is how many. */
int demo_problem_steps(int problem, const char *steps[3]);

#endif
