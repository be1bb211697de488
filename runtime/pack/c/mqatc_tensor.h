#ifndef MQATC_TENSOR_H
#define MQATC_TENSOR_H

#include <stdint.h>

/* How the elements of a tensor are stored. */
enum mqatc_packing {
  MQATC_INT = 0,     /* two's complement of `width` bits, low bits first */
  MQATC_UINT = 1,    /* unsigned, `width` bits, low bits first */
  MQATC_BINARY = 2,  /* one bit: 0 is -1, 1 is +1 */
  MQATC_TERNARY = 3, /* five digits of {-1, 0, +1} in a byte */
  MQATC_FLOAT = 4,   /* IEEE 754, little-endian, `width` bits */
  MQATC_BFLOAT = 5   /* the upper half of an IEEE 754 binary32, little-endian */
};

/* A tensor of a file of weights. Element i belongs to channel c = i / (product of the sizes behind axis) % shape[axis], or to 0
   where axis is -1, and is worth (code - zero_points[c]) * scales[c], codebook[code] * scales[c], or float * scales[c]. What has no
   entries is left out of that. */
typedef struct mqatc_tensor {
  const char *name;   /* UTF-8 */
  const char *module; /* UTF-8; "" for none */
  uint64_t offset;    /* in bytes from the start of the file */
  uint64_t bytes;
  const int64_t *shape;
  const float *scales;
  const int32_t *zero_points;
  const float *codebook;
  uint32_t rank;
  uint32_t num_scales;
  uint32_t num_zero_points;
  uint32_t num_codebook;
  uint32_t crc32c;
  int32_t axis;
  uint8_t bits;    /* planned width */
  uint8_t packing; /* enum mqatc_packing */
  uint8_t width;   /* bits an element takes in the file; 8, for five elements, where ternary */
} mqatc_tensor;

#endif
