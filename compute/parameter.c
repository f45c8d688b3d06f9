#include "compute/parameter.h"

#include "base/memory.h"

bool parameter_list_push(ParameterList *list, Parameter parameter, Error *error) {
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? 2 * list->capacity : 64;
    Parameter *items = memory_resize(list->items, capacity * sizeof *items);
    if (!items) return error_out_of_memory(error, "parameter list", capacity * sizeof *items);
    list->items = items;
    list->capacity = capacity;
  }
  list->items[list->count++] = parameter;
  return true;
}

void parameter_list_free(ParameterList *list) {
  memory_free(list->items);
  *list = (ParameterList){0};
}
