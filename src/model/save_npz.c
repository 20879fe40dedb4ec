/* save_npz.c: model -> one .npz file in big_vision's layout. */
#include "model/saver.h"

pali_status save_npz(saver *v) {
    return status_fail(PALI_ERR_UNSUPPORTED, "%s: npz files cannot be written yet", v->path);
}
