/* Reads the tensors of a weights.bin that is in memory, mapped for instance. C99, no allocation, no dependency. The table of tensors
   comes from the weights.h beside the file. Functions return MQATC_OK or another mqatc_status, and touch `out` only within n. */
#ifndef MQATC_WEIGHTS_H
#define MQATC_WEIGHTS_H

#include <stddef.h>

#include "mqatc_tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mqatc_status {
  MQATC_OK = 0,
  MQATC_BAD_TENSOR,   /* the entry contradicts itself */
  MQATC_OUT_OF_FILE,  /* its bytes lie beyond the end of the file */
  MQATC_BAD_CHECKSUM, /* its bytes are not those that were described */
  MQATC_BAD_LENGTH,   /* n is not the number of elements */
  MQATC_BAD_CODE,     /* the bytes hold a code that the packing or the codebook does not have */
  MQATC_RANGE,        /* a code does not fit the type of out, or the elements are no codes */
  MQATC_END_OF_STATUS
} mqatc_status;

const char *mqatc_message(mqatc_status s);

/* Number of elements, 0 too where shape has a negative size or too many. */
uint64_t mqatc_elements(const mqatc_tensor *t);

/* Checks an entry against a file of `size` bytes; the functions below do so too. */
mqatc_status mqatc_check(const mqatc_tensor *t, uint64_t size);

/* Compares the CRC-32C of the tensor's bytes. */
mqatc_status mqatc_verify(const mqatc_tensor *t, const void *file, uint64_t size);

/* Unpacks the codes of an integer packing. */
mqatc_status mqatc_unpack_int8(const mqatc_tensor *t, const void *file, uint64_t size, int8_t *out, uint64_t n);
mqatc_status mqatc_unpack_int32(const mqatc_tensor *t, const void *file, uint64_t size, int32_t *out, uint64_t n);

/* Unpacks and dequantizes any packing. */
mqatc_status mqatc_unpack_float(const mqatc_tensor *t, const void *file, uint64_t size, float *out, uint64_t n);

#ifdef __cplusplus
}
#endif
#endif
