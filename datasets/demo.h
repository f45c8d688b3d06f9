/* The demo task: a help desk in simple English, generated from a seed.
 *
 * A customer writes about one product (a kettle, a lamp ...) and one problem (it does not start, it came late
 * ...), sometimes with a name and an order number. A good answer opens courteously, names the product, gives
 * every step that the problem needs (two or three, fixed per problem) and closes courteously. Bad answers are
 * curt, incomplete, about another product, rude, or rambling.
 *
 * Preferences follow a stated utility of an answer (demo_utility):
 *
 *     U = 2 * (right steps given / steps needed) + 0.5 * polite opening + 0.5 * polite closing
 *         + 0.5 * right product - 1.5 * wrong product - 1 * each wrong step - 2 * rude
 *         - 0.05 * words beyond 36
 *
 * The better answer is chosen, and then 5% of the labels are flipped, so no reward model can agree with more
 * than about 95% of held-out pairs. Pairs always differ in utility by at least 0.5. Both kinds of answers are
 * in the SFT data (half good, half bad), so a policy trained on it samples both, and PPO has what it needs.
 *
 * Files, JSONL: pretrain {text}, sft and sft_eval {prompt, completion}, preferences and preferences_eval
 * {prompt, chosen, rejected}, prompts {prompt}, heldout {prompt, product, problem, steps}. Held-out prompts
 * occur in no other file; their extra keys are for the rule checker (tools/demo_check) and no training reads
 * them. Everything is a function of the seed. */
#ifndef DATASETS_DEMO_H
#define DATASETS_DEMO_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct DemoOptions {
  const char *directory; /* created when missing */
  uint64_t seed;
  bool shuffle_preferences; /* the control: every label is a coin flip, in training and evaluation pairs */
  int pretrain, sft, sft_eval, preferences, preferences_eval, prompts, heldout; /* records */
} DemoOptions;

/* The sizes that tools/demo.sh uses. */
DemoOptions demo_options_default(void);

/* Writes all files. */
NODISCARD bool demo_write(const DemoOptions *options, Error *error);

#endif
