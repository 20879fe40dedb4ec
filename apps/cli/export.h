/* export.h: the objects of many answers in the forms that annotation tools read: COCO's JSON, YOLO's text files, CSV.
 *
 * A picture that comes again, for another prompt, is the same picture with more objects. Objects without an area are left out
 * of COCO and YOLO. What has no label is called "object". */
#ifndef PALI_CLI_EXPORT_H
#define PALI_CLI_EXPORT_H

#include "report.h"

typedef struct export_set export_set;

/* format: coco, yolo or csv. NULL: no memory. */
export_set *export_new(const char *format);
void export_free(export_set *x);
/* Adds the objects of an answer as `run --json` prints it; path is the file name of its first picture. False: the fault says
 * why, and nothing was added. */
bool export_add(export_set *x, const char *path, const json_t *answer, fault *f);
/* Writes to -o: a file or the output of the command, for YOLO a directory. An exit code. */
int export_write(cli *c, const export_set *x);

#endif
