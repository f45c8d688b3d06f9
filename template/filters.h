/* The functions behind the table of filters (filters.c), by what they work on. */
#ifndef TEMPLATE_FILTERS_H
#define TEMPLATE_FILTERS_H

#include "template/builtin.h"

/* filters_text.c */
BuiltinFunction filter_trim, filter_upper, filter_lower, filter_capitalize, filter_title, filter_replace,
    filter_indent, filter_center, filter_truncate, filter_wordcount, filter_striptags, filter_urlencode,
    filter_string, filter_safe, filter_escape, filter_forceescape, filter_xmlattr;
/* filters_items.c */
BuiltinFunction filter_length, filter_first, filter_last, filter_list, filter_join, filter_reverse,
    filter_sort, filter_unique, filter_min, filter_max, filter_sum, filter_dictsort, filter_items,
    filter_groupby, filter_batch, filter_slice;
/* filters_map.c */
VariadicFunction filter_map, filter_select, filter_reject, filter_selectattr, filter_rejectattr;

/* filters_items.c: "a.b.0": what of an item a filter looks at. attribute: missing or none for the item itself. */
NODISCARD bool attribute_path(Run *run, Value item, Value attribute, Value fallback, Value *out);

#endif
