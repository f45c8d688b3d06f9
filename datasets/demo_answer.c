#include "datasets/demo_answer.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COUNT(table)      ((int)(sizeof(table) / sizeof *(table)))
#define PICK(dice, table) ((table)[dice_throw(dice, COUNT(table))])

int dice_throw(Dice *dice, int sides) {
  return (int)random_below(dice->key, dice->sample, dice->position++, (uint32_t)sides);
}

/* ---- The world ------------------------------------------------------------------------------------- */

static const char *const products[] = {"kettle",  "lamp", "heater",  "radio",
                                       "printer", "fan",  "toaster", "camera"};
static const char *const names[] = {"Ann", "Tom", "Sue", "Ben", "Eva", "Max", "Lily", "Sam", "Nina", "Paul"};
static const char *const colours[] = {"red", "blue", "green", "white", "black"};
static const char *const rooms[] = {"kitchen", "office", "garden", "bedroom", "shop"};

typedef enum Step {
  CHECK_PLUG,
  PRESS_RESET,
  CLEAN_FILTER,
  TIGHTEN_SCREWS,
  SWITCH_OFF,
  COOL_DOWN,
  OPEN_WINDOW,
  SEND_PHOTO,
  KEEP_BOX,
  TRACKING_PAGE,
  WAIT_DAYS,
  RETURN_FORM,
  POST_OFFICE,
  HOLD_KEY,
  INSTALL_UPDATE,
  CALL_SERVICE,
  UNDER_FOAM,
  REFUND_FORM,
  NO_STEP = -1
} Step;

static const char *const step_texts[] = {[CHECK_PLUG] = "check the plug",
                                         [PRESS_RESET] = "press the reset button",
                                         [CLEAN_FILTER] = "clean the filter",
                                         [TIGHTEN_SCREWS] = "tighten the screws",
                                         [SWITCH_OFF] = "switch it off",
                                         [COOL_DOWN] = "let it cool down",
                                         [OPEN_WINDOW] = "open the window",
                                         [SEND_PHOTO] = "send us a photo",
                                         [KEEP_BOX] = "keep the box",
                                         [TRACKING_PAGE] = "look at the tracking page",
                                         [WAIT_DAYS] = "wait two more days",
                                         [RETURN_FORM] = "print the return form",
                                         [POST_OFFICE] = "take it to the post office",
                                         [HOLD_KEY] = "hold the power key",
                                         [INSTALL_UPDATE] = "install the update",
                                         [CALL_SERVICE] = "call the service line",
                                         [UNDER_FOAM] = "look under the foam",
                                         [REFUND_FORM] = "fill in the refund form"};

typedef struct Problem {
  const char *name;
  const char *questions[3]; /* %s is the product */
  const char *story;        /* third person, for pretraining */
  Step steps[3];
} Problem;

static const Problem problems[] = {
    {"start",
     {"My %s does not start.", "I cannot turn on my %s.", "The new %s stays dead."},
     "the %s does not start",
     {CHECK_PLUG, PRESS_RESET, NO_STEP}},
    {"noise",
     {"My %s makes a loud noise.", "There is a strange noise in my %s.", "The %s is much too loud."},
     "the %s makes a loud noise",
     {CLEAN_FILTER, TIGHTEN_SCREWS, NO_STEP}},
    {"hot",
     {"My %s gets too hot.", "The %s is so hot that I cannot touch it.", "I think my %s is too warm."},
     "the %s gets too hot",
     {SWITCH_OFF, COOL_DOWN, CLEAN_FILTER}},
    {"smoke",
     {"There is smoke from my %s.", "My %s smells of smoke.", "I see smoke on the %s."},
     "the %s smells of smoke",
     {SWITCH_OFF, OPEN_WINDOW, CALL_SERVICE}},
    {"late",
     {"My %s is late.", "The %s that I ordered did not come.", "I still wait for my %s."},
     "the %s comes late",
     {TRACKING_PAGE, WAIT_DAYS, NO_STEP}},
    {"broken",
     {"My %s came broken.", "The %s in the box was broken.", "I opened the box and my %s had a crack."},
     "the %s comes broken",
     {SEND_PHOTO, KEEP_BOX, NO_STEP}},
    {"colour",
     {"My %s has the wrong colour.", "I ordered a red %s and got a blue one.",
      "The colour of the %s is not right."},
     "the %s has the wrong colour",
     {KEEP_BOX, RETURN_FORM, POST_OFFICE}},
    {"blink",
     {"The light on my %s blinks.", "My %s blinks red all day.", "A red light blinks on the %s."},
     "the light on the %s blinks",
     {HOLD_KEY, INSTALL_UPDATE, PRESS_RESET}},
    {"money",
     {"I want my money back for the %s.", "Can I get a refund for my %s?",
      "I do not like my %s and want a refund."},
     "someone wants the money back for the %s",
     {REFUND_FORM, RETURN_FORM, POST_OFFICE}},
    {"cable",
     {"My %s came without a cable.", "I cannot find the cable of my %s.", "There is no cable with the %s."},
     "the %s comes without a cable",
     {UNDER_FOAM, SEND_PHOTO, NO_STEP}}};

const char *demo_product_name(int product) {
  return products[product];
}
const char *demo_problem_name(int problem) {
  return problems[problem].name;
}

int demo_problem_steps(int problem, const char *steps[3]) {
  int count = 0;
  for (int i = 0; i < 3; i++) {
    if (problems[problem].steps[i] != NO_STEP) steps[count++] = step_texts[problems[problem].steps[i]];
  }
  return count;
}

/* ---- Text ------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static void add(char *out, size_t size, const char *format, ...) {
  size_t used = strlen(out);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(out + used, size - used, format, arguments);
  va_end(arguments);
}

/* A table's own format with one %s. */
static void add_with(char *out, size_t size, const char *format, const char *word) {
  const char *hole = strstr(format, "%s");
  add(out, size, "%.*s%s%s", (int)(hole - format), format, word, hole + 2);
}

/* "a", "a and b", "a, b and c" */
static void add_steps(char *out, size_t size, const Step *steps, int count) {
  for (int i = 0; i < count; i++) {
    const char *join = i == 0 ? "" : i == count - 1 ? " and " : ", ";
    add(out, size, "%s%s", join, step_texts[steps[i]]);
  }
}

static int count_words(const char *text) {
  int words = 0;
  for (const char *at = text; *at; at++) words += *at != ' ' && (at == text || at[-1] == ' ');
  return words;
}

void demo_question(Dice *dice, DemoQuestion *question) {
  static const char *const greetings[] = {"", "Hi. ", "Hello. ", "Good morning. "};
  static const char *const endings[] = {"", " What can I do?", " Can you help me?", " Please help."};
  *question = (DemoQuestion){.product = dice_throw(dice, COUNT(products)),
                             .problem = dice_throw(dice, COUNT(problems))};
  char *out = question->text;
  size_t size = sizeof question->text;
  add(out, size, "%s", PICK(dice, greetings));
  if (dice_throw(dice, 2)) {
    question->name = PICK(dice, names);
    add(out, size, dice_throw(dice, 2) ? "I am %s. " : "My name is %s. ", question->name);
  }
  const Problem *problem = &problems[question->problem];
  add_with(out, size, PICK(dice, problem->questions), products[question->product]);
  if (dice_throw(dice, 2)) add(out, size, " My order is %d.", 10 + dice_throw(dice, 90));
  add(out, size, "%s", PICK(dice, endings));
}

/* ---- Answers --------------------------------------------------------------------------------------- */

typedef enum Tone { TONE_NONE, TONE_POLITE, TONE_RUDE } Tone;

/* What an answer consists of; text and utility follow from it. */
typedef struct Plan {
  Tone opening, closing;
  int product; /* -1: none is named */
  Step steps[3];
  int step_count;
  int idle; /* sentences of idle talk */
} Plan;

static void add_opening(Dice *dice, Tone tone, const char *name, char *out, size_t size) {
  static const char *const rude[] = {"Not you again. ", "What do you want now? ", "This is your own fault. ",
                                     "You should read the manual. "};
  if (tone == TONE_RUDE) add(out, size, "%s", PICK(dice, rude));
  if (tone != TONE_POLITE) return;
  switch (dice_throw(dice, 4)) {
    case 0:
      add(out, size, name ? "Thank you for your message, %s. " : "Thank you for your message. ", name);
      break;
    case 1:
      add(out, size, name ? "Hello %s, thank you for writing. " : "Hello, thank you for writing. ", name);
      break;
    case 2:
      add(out, size, "Dear %s, I am sorry to hear that. ", name ? name : "customer");
      break;
    default:
      add(out, size, name ? "I am sorry about the trouble, %s. " : "I am sorry about the trouble. ", name);
  }
}

static void add_closing(Dice *dice, Tone tone, char *out, size_t size) {
  static const char *const polite[] = {" Have a nice day.", " We are happy to help.",
                                       " Please write again if you need more help.",
                                       " Best wishes from your help desk."};
  static const char *const rude[] = {" Do not write again.", " Stop wasting our time.",
                                     " That is all you get.", " Find out the rest yourself."};
  if (tone == TONE_POLITE) add(out, size, "%s", PICK(dice, polite));
  if (tone == TONE_RUDE) add(out, size, "%s", PICK(dice, rude));
}

static void add_body(Dice *dice, const Plan *plan, char *out, size_t size) {
  static const char *const courteous[] = {"For your %s, please ", "About your %s: please ",
                                          "With your %s, please "};
  static const char *const helpless[] = {"I do not know.", "Buy a new one.", "Ask someone else."};
  bool curt = plan->opening != TONE_POLITE;
  if (plan->step_count == 0) {
    if (plan->product >= 0) add(out, size, "About your %s: ", products[plan->product]);
    add(out, size, "%s", PICK(dice, helpless));
    return;
  }
  size_t begin = strlen(out);
  if (plan->product >= 0 && !curt) add_with(out, size, PICK(dice, courteous), products[plan->product]);
  if (plan->product >= 0 && curt) add(out, size, "%s: ", products[plan->product]);
  if (plan->product < 0 && !curt) add(out, size, "Please ");
  add_steps(out, size, plan->steps, plan->step_count);
  add(out, size, ".");
  out[begin] = (char)toupper((unsigned char)out[begin]);
}

static void add_idle(Dice *dice, int count, char *out, size_t size) {
  static const char *const talk[] = {" We sell many good things.", " The weather is very nice today.",
                                     " Our shop is very old and big.", " Many people like our shop."};
  int at = dice_throw(dice, COUNT(talk));
  for (int i = 0; i < count; i++) add(out, size, "%s", talk[(at + i) % COUNT(talk)]);
}

static bool needs_step(const Problem *problem, Step step) {
  return step == problem->steps[0] || step == problem->steps[1] || step == problem->steps[2];
}

/* The formula at the head of demo.h. */
static double plan_utility(const Plan *plan, const DemoQuestion *question, int words) {
  const Problem *problem = &problems[question->problem];
  int needed = problem->steps[2] == NO_STEP ? 2 : 3, right = 0;
  for (int i = 0; i < plan->step_count; i++) right += needs_step(problem, plan->steps[i]);
  double utility = 2.0 * right / needed - 1.0 * (plan->step_count - right);
  utility += 0.5 * (plan->opening == TONE_POLITE) + 0.5 * (plan->closing == TONE_POLITE);
  if (plan->opening == TONE_RUDE || plan->closing == TONE_RUDE) utility -= 2;
  if (plan->product >= 0) utility += plan->product == question->product ? 0.5 : -1.5;
  if (words > 32) utility -= 0.1 * (words - 32);
  return utility;
}

static int other(Dice *dice, int count, int not_this) {
  return (not_this + 1 + dice_throw(dice, count - 1)) % count;
}

static void plan_steps(Plan *plan, int problem) {
  plan->step_count = 0;
  for (int i = 0; i < 3; i++) {
    Step step = problems[problem].steps[i];
    if (step != NO_STEP) plan->steps[plan->step_count++] = step;
  }
}

/* Leaves `keep` of the steps, chosen at random, in their order. */
static void drop_steps(Dice *dice, Plan *plan, int keep) {
  while (plan->step_count > keep) {
    int out = dice_throw(dice, plan->step_count);
    for (int i = out; i + 1 < plan->step_count; i++) plan->steps[i] = plan->steps[i + 1];
    plan->step_count--;
  }
}

static Plan make_plan(Dice *dice, const DemoQuestion *question, DemoFlaw flaw) {
  Plan plan = {.opening = TONE_POLITE, .closing = TONE_POLITE, .product = question->product};
  plan_steps(&plan, question->problem);
  Tone maybe_polite = dice_throw(dice, 2) ? TONE_POLITE : TONE_NONE;
  switch (flaw) {
    case DEMO_GOOD:
    case DEMO_FLAW_COUNT:
      break;
    case DEMO_CURT:
      plan.opening = plan.closing = TONE_NONE;
      if (dice_throw(dice, 2)) plan.product = -1;
      drop_steps(dice, &plan, 1);
      break;
    case DEMO_COLD:
      plan.opening = plan.closing = TONE_NONE;
      break;
    case DEMO_INCOMPLETE:
      plan.closing = maybe_polite;
      drop_steps(dice, &plan, 1 + dice_throw(dice, plan.step_count - 1));
      break;
    case DEMO_WRONG_PRODUCT:
      plan.closing = maybe_polite;
      plan.product = other(dice, COUNT(products), question->product);
      break;
    case DEMO_WRONG_PROBLEM:
      plan.closing = maybe_polite;
      plan_steps(&plan, other(dice, COUNT(problems), question->problem));
      break;
    case DEMO_RUDE:
      plan.opening = dice_throw(dice, 3) ? TONE_RUDE : TONE_NONE;
      plan.closing = plan.opening == TONE_NONE || dice_throw(dice, 2) ? TONE_RUDE : TONE_NONE;
      drop_steps(dice, &plan, 1 + dice_throw(dice, plan.step_count));
      break;
    case DEMO_RAMBLING:
      plan.idle = 2;
      break;
    case DEMO_NO_STEPS:
      plan.step_count = 0;
      plan.opening = maybe_polite;
      plan.closing = TONE_NONE;
      if (dice_throw(dice, 2)) plan.product = -1;
      break;
  }
  return plan;
}

void demo_answer(Dice *dice, const DemoQuestion *question, DemoFlaw flaw, DemoAnswer *answer) {
  Plan plan = make_plan(dice, question, flaw);
  char *out = answer->text;
  size_t size = sizeof answer->text;
  out[0] = '\0';
  add_opening(dice, plan.opening, question->name, out, size);
  add_body(dice, &plan, out, size);
  add_idle(dice, plan.idle, out, size);
  add_closing(dice, plan.closing, out, size);
  answer->utility = plan_utility(&plan, question, count_words(out));
}

/* ---- Pretraining text ------------------------------------------------------------------------------ */

static void add_advice(Dice *dice, char *out, size_t size) {
  const Problem *problem = &PICK(dice, problems);
  add(out, size, "When ");
  add_with(out, size, problem->story, PICK(dice, products));
  add(out, size, ", you should ");
  add_steps(out, size, problem->steps, problem->steps[2] == NO_STEP ? 2 : 3);
  add(out, size, ". ");
}

static void add_story(Dice *dice, char *out, size_t size) {
  const char *name = PICK(dice, names), *product = PICK(dice, products), *colour = PICK(dice, colours);
  const char *room = PICK(dice, rooms);
  switch (dice_throw(dice, 7)) {
    case 0:
      add(out, size, "%s has a %s %s in the %s. ", name, colour, product, room);
      break;
    case 1:
      add(out, size, "The %s stands in the %s and it is %s. ", product, room, colour);
      break;
    case 2:
      add(out, size, "%s wants to buy a new %s for the %s. ", name, product, room);
      break;
    case 3:
      add(out, size, "Today %s ordered a %s %s and a %s. ", name, colour, product, PICK(dice, products));
      break;
    case 4:
      add(out, size, "My name is %s and I like my %s. ", name, product);
      break;
    case 5:
      add(out, size, "There is a %s %s in the box for %s. ", colour, product, name);
      break;
    default:
      add(out, size, "The help desk is happy to help %s with the %s. ", name, product);
  }
}

void demo_text(Dice *dice, const DemoQuestion *question, char *out, size_t size) {
  DemoAnswer answer;
  out[0] = '\0';
  switch (dice_throw(dice, 4)) {
    case 0: /* a dialogue without the marks of a template */
      demo_answer(dice, question, (DemoFlaw)dice_throw(dice, DEMO_FLAW_COUNT), &answer);
      add(out, size, "user\n%s\nassistant\n%s ", question->text, answer.text);
      break;
    case 1:
      add(out, size, "%s ", question->text);
      break;
    default:
      add_story(dice, out, size);
  }
  int sentences = dice_throw(dice, 3);
  for (int i = 0; i < sentences; i++) {
    if (dice_throw(dice, 2)) {
      add_advice(dice, out, size);
    } else {
      add_story(dice, out, size);
    }
  }
  size_t used = strlen(out);
  if (used && out[used - 1] == ' ') out[used - 1] = '\0';
}
