/* pattern.h: whether a name matches a regular expression of the dialect that Python's `re` and this file read alike. Adapter
 * configs have such patterns, and anybody writes those: matching takes time proportional to pattern times name, whatever the
 * pattern is (no backtracking), and comes out of a budget. */
#ifndef PALI_IO_PATTERN_H
#define PALI_IO_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define PATTERN_MAX_BYTES 1000u
#define PATTERN_MAX_STATES 4000u /* with repetitions written out */
#define PATTERN_MAX_DEPTH 50u    /* of groups */

typedef struct pattern pattern;

/* Characters, ".", classes such as [^a-z_], \d \w \s and their opposites, groups ( ) and (?: ), "|", ^ and $, the quantifiers
 * * + ? {m} {m,} {m,n}, also with a further "?", which has no say in whether there is a match. What Python has beyond that
 * (look-around, references, flags, names) is PALI_ERR_UNSUPPORTED. `name` stands for the document in messages. */
pali_status pattern_new(pattern **out, const char *text, const char *name);
void pattern_free(pattern *p);
size_t pattern_n_states(const pattern *p);
/* As re.match: the pattern matches a beginning of the subject (a line of ASCII). *work goes down by the steps that it took;
 * false once it is 0. */
bool pattern_matches(pattern *p, const char *subject, size_t *work);

#endif
