#include "model/box.h"

#include <math.h>

void box_pixels(double box[4], int32_t whole[4], const int32_t loc[4], int32_t width, int32_t height, pali_box_convention convention) {
    const double side[4] = {width, height, width, height};
    const int32_t index[4] = {loc[1], loc[0], loc[3], loc[2]};
    for (size_t i = 0; i < 4; i++) {
        box[i] = (double)index[i] / (convention == PALI_BOX_1023 ? 1023 : 1024) * side[i];
        whole[i] = (int32_t)(convention == PALI_BOX_1023 ? trunc(box[i]) : rint(box[i])); /* rint: halves to even */
    }
}

bool box_valid(const int32_t loc[4], const int32_t whole[4], pali_box_convention convention) {
    const bool has_area = loc[2] > loc[0] && loc[3] > loc[1];
    return has_area && (convention != PALI_BOX_1023 || (whole[2] > whole[0] && whole[3] > whole[1]));
}
