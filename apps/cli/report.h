/* report.h: results as JSON (jansson). Numbers are finite or the command fails; text that is not UTF-8, such as a file
 * name, has its foreign bytes replaced. Functions that make a value return NULL if memory ran out. */
#ifndef PALI_CLI_REPORT_H
#define PALI_CLI_REPORT_H

#include <jansson.h>

#include "cli.h"

#define REPORT_SCHEMA 1
#define REPORT_DIGITS 15 /* of every number: a box in pixels, index / 1024 of a side, is exact up to sides of 99999 */

json_t *report_text(const char *bytes, size_t n_bytes);
json_t *report_ids(const int32_t *ids, size_t n);
json_t *report_floats(const float *values, size_t n);
json_t *report_ms(double ms); /* rounded to microseconds */
/* Whether every log-probability and score is a number; damaged weights give NaN. */
bool report_is_finite(const pali_result *result);
#define REPORT_NOT_FINITE "log-probabilities: finite numbers expected: the weights may be damaged"
/* Prints the object on one line, frees it, and returns the exit code; NULL is "out of memory". */
int report_print(cli *c, json_t *object);

#endif
