/* objects.h: the objects of an answer as `run --json` prints them. */
#ifndef PALI_CLI_OBJECTS_H
#define PALI_CLI_OBJECTS_H

#include "report.h"

/* The array "objects" of the contract; [] for NULL. */
json_t *objects_json(const pali_objects *objects);

#endif
