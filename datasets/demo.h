/* The demo task: a help desk in simple English, generated from a seed.
 *
 * A customer writes about one product (a kettle, a lamp ...) and one problem (it does not start, it came late
 * ...), sometimes with a name and an order number. A good answer opens courteously, names the product, gives
 * every step that the problem needs (two or three, fixed per problem) and closes courteously. Bad answers are
 * curt, incomplete, about another product or problem, rude, or rambling (demo_answer.h).
 *
 * Preferences follow a stated utility of an answer:
 *
 *     U = 2 * (right steps given / steps needed) - 1 * each wrong step
 *         + 0.5 * polite opening + 0.5 * polite closing - 2 * rude
 *         + 0.5 * right product named - 1.5 * wrong product named - 0.1 * words beyond 32
 *
 * The better answer is chosen, then 5% of the labels are flipped: exactly one pair in twenty, so a perfect
 * judge agrees with 95% of the held-out pairs. Two sides of a pair differ in utility by at least 0.5. Both
 * kinds of answers are in the SFT data (half good, half bad), so a policy trained on it samples both, which is
 * all that PPO needs to find the good ones.
 *
 * Files, JSONL: pretrain {text}, sft and sft_eval {prompt, completion}, preferences and preferences_eval
 * {prompt, chosen, rejected}, prompts and heldout {prompt, product, problem, steps}. Prompts of heldout,
 * sft_eval and preferences_eval occur in no other file. The extra keys of prompts and heldout are for the rule
 * checker (tools/demo_check), and nothing is learnt from them. Everything is a function of the seed. */
#ifndef DATASETS_DEMO_H
#define DATASETS_DEMO_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct DemoOptions {
  const char *directory; /* created when missing */
  uint64_t seed;
  bool
      shuffle_preferences; /* the control: labels of the training pairs are coin flips (held-out ones stay) */
  int pretrain, sft, sft_eval, preferences, preferences_eval, prompts, heldout; /* records per file */
} DemoOptions;

/* The sizes that tools/demo.sh uses. */
DemoOptions demo_options_default(void);

/* Writes all files: pretrain.jsonl, sft.jsonl ... */
NODISCARD bool demo_write(const DemoOptions *options, Error *error);

#endif
