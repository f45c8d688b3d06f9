/* {% for %}, and its `loop`. */
#include "template/object.h"
#include "template/text.h"

#include <string.h>

/* ---- for x in items if test ---- */

/* The next item of `inner` for which the loop's test holds. */
static bool next_that_passes(Run *run, Iterator *iterator, Value *out, bool *done) {
  const Node *node = iterator->state;
  for (;;) {
    if (!iterator_next(run, iterator->inner, out, done)) return false;
    if (*done) return true;
    if (!iterator->begun) frame_load(run, &node->as.loop.test_loads);
    iterator->begun = true;
    Value holds;
    if (!assign(run, node->as.loop.test_target, *out) || !evaluate(run, node->as.loop.test, &holds))
      return false;
    if (value_is_true(holds)) return true;
  }
}

static bool loop_items(Run *run, const Node *node, Value iterable, Iterator **items, Value *sized) {
  *sized = iterable;
  if (!iterate(run, iterable, items)) return false;
  if (!node->as.loop.test) return true;
  Iterator *filtered = run_alloc(run, sizeof *filtered);
  if (!filtered) return false;
  *filtered = (Iterator){.next = next_that_passes, .inner = *items, .state = (void *)(uintptr_t)node};
  *items = filtered;
  *sized = value_missing();
  return true;
}

/* ---- running ---- */

/* The next item: the one that was looked at already, or a new one. */
static bool take(Run *run, Loop *loop, Value *item, bool *done) {
  *done = false;
  *item = loop->after;
  loop->after = value_missing();
  if (value_is_missing(*item) && !iterator_next(run, loop->items, item, done)) return false;
  if (*done) return true;
  loop->index0++;
  loop->before = loop->current;
  loop->current = *item;
  return true;
}

static Flow run_body(Run *run, const Node *node, Value item) {
  if (!assign(run, node->as.loop.target, item)) return FLOW_FAILED;
  frame_load(run, &node->as.loop.body_loads);
  return execute(run, node->as.loop.body);
}

/* All rounds; then else if there was none. */
static Flow run_rounds(Run *run, const Node *node, Iterator *items, Loop *loop) {
  bool any = false;
  for (;;) {
    Value item;
    bool done;
    if (loop ? !take(run, loop, &item, &done) : !iterator_next(run, items, &item, &done)) return FLOW_FAILED;
    if (done) break;
    Flow flow = run_body(run, node, item);
    if (flow == FLOW_FAILED) return flow;
    /* As in jinja2, a round that was left early does not count for else. */
    if (flow == FLOW_BREAK) break;
    if (flow == FLOW_ON) any = true;
  }
  if (any || !node->as.loop.otherwise) return FLOW_ON;
  frame_load(run, &node->as.loop.else_loads);
  return execute(run, node->as.loop.otherwise);
}

static Flow run_loop(Run *run, const Node *node, Value iterable, int depth, Frame *outer) {
  Iterator *items;
  Value sized, object_value;
  if (!loop_items(run, node, iterable, &items, &sized)) return FLOW_FAILED;
  if (!node->as.loop.extended) return run_rounds(run, node, items, NULL);
  ValueObject *object;
  if (!object_new(run, OBJECT_LOOP, &object, &object_value)) return FLOW_FAILED;
  object->as.loop = (Loop){.items = items,
                           .iterable = sized,
                           .index0 = -1,
                           .length = -1,
                           .depth = depth,
                           .recursive = node->as.loop.function ? node : NULL,
                           .outer = outer};
  run->frame->slots[node->as.loop.loop_slot] = object_value;
  return run_rounds(run, node, items, &object->as.loop);
}

Flow execute_loop(Run *run, const Node *node) {
  Value iterable, text;
  if (!evaluate(run, node->as.loop.iterable, &iterable)) return FLOW_FAILED;
  if (!node->as.loop.function) return run_loop(run, node, iterable, 1, NULL);
  bool done = loop_recurse(run, node, run->frame, iterable, 1, &text) && print_value(run, text);
  return done ? FLOW_ON : FLOW_FAILED;
}

bool loop_recurse(Run *run, const Node *node, Frame *outer, Value iterable, int depth, Value *out) {
  Frame *caller = run->frame, *frame = frame_new(run, node->as.loop.function, outer);
  if (!frame || !run_enter_call(run)) return false;
  run->frame = frame;
  size_t mark = text_mark(run);
  Flow flow = run_loop(run, node, iterable, depth, outer);
  run->frame = caller;
  run->calls--;
  return flow != FLOW_FAILED && text_cut(run, mark, out);
}

/* ---- loop.* ---- */

static bool peek(Run *run, Loop *loop, bool *there) {
  bool done = false;
  if (value_is_missing(loop->after)) {
    Value item;
    if (!iterator_next(run, loop->items, &item, &done)) return false;
    if (!done) loop->after = item;
  }
  *there = !done;
  return true;
}

/* Of what has no length, all items that are left are fetched. */
static bool count(Run *run, Loop *loop, int64_t *length) {
  size_t known;
  if (loop->length < 0) {
    if (!value_is_missing(loop->iterable) && value_has_length(loop->iterable, &known)) {
      loop->length = (int64_t)known;
    } else {
      Value rest, list;
      if (!object_of_iterator(run, loop->items, &rest) || !value_to_list(run, rest, &list) ||
          !iterate(run, list, &loop->items))
        return false;
      loop->length = (int64_t)list.as.list->count + loop->index0 + 1 + !value_is_missing(loop->after);
    }
  }
  *length = loop->length;
  return true;
}

static bool neighbour(Run *run, Value item, const char *hint, Value *out) {
  *out = item;
  return !value_is_missing(item) || run_undefined(run, hint, value_missing(), value_none(), out);
}

bool loop_attribute(Run *run, Loop *loop, const ValueString *name, Value *out, bool *found) {
  int64_t length;
  bool there;
  *found = true;
  if (string_equals(name, "index0")) {
    *out = value_int(loop->index0);
  } else if (string_equals(name, "index")) {
    *out = value_int(loop->index0 + 1);
  } else if (string_equals(name, "first")) {
    *out = value_bool(loop->index0 == 0);
  } else if (string_equals(name, "last")) {
    if (!peek(run, loop, &there)) return false;
    *out = value_bool(!there);
  } else if (string_equals(name, "length")) {
    if (!count(run, loop, &length)) return false;
    *out = value_int(length);
  } else if (string_equals(name, "revindex")) {
    if (!count(run, loop, &length)) return false;
    *out = value_int(length - loop->index0);
  } else if (string_equals(name, "revindex0")) {
    if (!count(run, loop, &length)) return false;
    *out = value_int(length - loop->index0 - 1);
  } else if (string_equals(name, "depth") || string_equals(name, "depth0")) {
    *out = value_int(name->size == 5 ? loop->depth : loop->depth - 1);
  } else if (string_equals(name, "previtem")) {
    return neighbour(run, loop->before, "there is no previous item", out);
  } else if (string_equals(name, "nextitem")) {
    return peek(run, loop, &there) && neighbour(run, loop->after, "there is no next item", out);
  } else {
    *found = false;
  }
  return true;
}

bool loop_length(Run *run, Loop *loop, size_t *out) {
  int64_t length;
  if (!count(run, loop, &length)) return false;
  *out = (size_t)length;
  return true;
}
