/* Entries and bytes that the reader must refuse. */
#include <stdio.h>

#include "mqatc_weights.h"

static int failures;

static void expect(const char *what, mqatc_status got, mqatc_status want) {
  if (got == want) return;
  fprintf(stderr, "%s: %s, want %s\n", what, mqatc_message(got), mqatc_message(want));
  failures++;
}

int main(void) {
  static const int64_t shape[2] = {2, 3}, huge[2] = {INT64_MAX, INT64_MAX}, negative[2] = {-2, -3}, none[2] = {0, INT64_MAX};
  static const float scales[2] = {1, 2}, levels[3] = {-1, 0, 1};
  static const unsigned char file[8] = {242, 1, 0xff, 243, 0, 0xe4, 0xff, 0xff};
  float out[6];
  int8_t codes[6];
  const mqatc_tensor good = {"t", "", 0, 2, shape, scales, 0, 0, 2, 2, 0, 0, 0, 0, 2, MQATC_TERNARY, 8};
  mqatc_tensor t = good;
  expect("good", mqatc_check(&t, 8), MQATC_OK);
  t.shape = huge;
  expect("huge", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t.shape = negative;
  expect("negative", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t.shape = 0;
  expect("no shape", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t = good;
  t.rank = 65;
  expect("rank", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t = good;
  t.bytes = 3;
  expect("bytes", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t = good;
  t.offset = UINT64_MAX;
  expect("offset", mqatc_check(&t, 8), MQATC_OUT_OF_FILE);
  t = good;
  t.axis = 2;
  expect("axis", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t.axis = -1;
  expect("scales", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t = good;
  t.packing = 9;
  expect("packing", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t = good;
  t.packing = MQATC_INT;
  t.width = 9;
  expect("width", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t = good;
  t.codebook = levels;
  t.num_codebook = 3;
  expect("codebook of signed codes", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t = good;
  t.scales = 0;
  expect("no scales", mqatc_check(&t, 8), MQATC_BAD_TENSOR);
  t = good;
  t.offset = 3;
  expect("ternary byte", mqatc_unpack_float(&t, file, 8, out, 6), MQATC_BAD_CODE);
  expect("ternary byte", mqatc_unpack_int8(&t, file, 8, codes, 6), MQATC_BAD_CODE);
  t = good;
  t.packing = MQATC_UINT;
  t.width = t.bits = 2;
  t.codebook = levels;
  t.num_codebook = 3;
  t.offset = 5;
  expect("codebook", mqatc_unpack_float(&t, file, 8, out, 6), MQATC_BAD_CODE);
  t = good;
  t.shape = none;
  t.axis = 0;
  t.num_scales = 0;
  t.bytes = 0;
  t.offset = 8;
  expect("no elements", mqatc_unpack_float(&t, file, 8, out, 0), MQATC_OK);
  return failures > 0;
}
