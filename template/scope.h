/* Which variable a name means, decided once for the whole tree.
 *
 * The rules are those of jinja2 (idtracking.py): for, with, set blocks, filter blocks and macros have scopes, if has none. A
 * name that is set anywhere in a scope is that scope's own everywhere in it, and begins as what the name means outside (LOAD_ALIAS), as what
 * the caller gave (LOAD_RESOLVE), or as nothing (LOAD_MISSING). A name that is only read is the outer one's, or the caller's. */
#ifndef TEMPLATE_SCOPE_H
#define TEMPLATE_SCOPE_H

#include "template/template.h"
#include "template/tree.h"

NODISCARD bool scope_bind(Template *template, Error *error);

#endif
