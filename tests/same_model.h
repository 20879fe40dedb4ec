/* same_model.h: two models are the same to the bit, for tests of what is written and read back. */
#ifndef PALI_TESTS_SAME_MODEL_H
#define PALI_TESTS_SAME_MODEL_H

#include "model/model.h"

/* These fail the running cmocka test. */
void assert_same_config(const config *a, const config *b);
/* Every tensor has the same type and bytes; the files had nothing else. */
void assert_same_model(const model *a, const model *b);

#endif
