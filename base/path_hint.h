/* What was probably meant by a path that is not there. */
#ifndef BASE_PATH_HINT_H
#define BASE_PATH_HINT_H

/* The path with the name in its directory that is nearest to its last part; a new string, or NULL. */
char *path_nearest(const char *path);

/* Appends to text[size], behind what is there, why a path may not be found, and the cure: "; did you mean world/sft.jsonl?", "; ~
 * stands for ...". Nothing where there is nothing to say. */
void path_hint(const char *path, char *text, unsigned size);

#endif
