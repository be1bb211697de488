/* Unpacks every tensor of the table in weights.h from the file argv[1] to standard output: a byte that says whether there are codes,
   the codes as int32 if so, then the values as binary32, in the byte order of this machine. */
#include <stdio.h>
#include <stdlib.h>

#include "mqatc_weights.h"
#include "weights.h"

static void stop(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(const mqatc_tensor *t, mqatc_status s) {
  if (s != MQATC_OK) stop(t->name, mqatc_message(s));
}

int main(int argc, char **argv) {
  FILE *f;
  long size;
  unsigned char *file;
  int i;
  if (argc != 2) stop("usage", "dump FILE");
  f = fopen(argv[1], "rb");
  if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0) stop(argv[1], "cannot be read");
  rewind(f);
  file = malloc((size_t)size + 1);
  if (!file || fread(file, 1, (size_t)size, f) != (size_t)size) stop(argv[1], "cannot be read");
  fclose(f);
  for (i = 0; i < weights_NUM_TENSORS; i++) {
    const mqatc_tensor *t = &weights_tensors[i];
    uint64_t n = mqatc_elements(t), k, bytes = (uint64_t)size;
    int32_t *codes = malloc((size_t)n * 4 + 4);
    int8_t *small = malloc((size_t)n + 1);
    float *values = malloc((size_t)n * 4 + 4);
    int has_codes = t->packing != MQATC_FLOAT && t->packing != MQATC_BFLOAT, wide = 0;
    mqatc_status s;
    if (!codes || !small || !values) stop(t->name, "no memory");
    check(t, mqatc_verify(t, file, bytes));
    putchar(has_codes);
    if (has_codes) {
      check(t, mqatc_unpack_int32(t, file, bytes, codes, n));
      for (k = 0; k < n; k++) wide |= codes[k] < INT8_MIN || codes[k] > INT8_MAX;
      s = mqatc_unpack_int8(t, file, bytes, small, n);
      if (s != (wide ? MQATC_RANGE : MQATC_OK)) stop(t->name, "int8: wrong status");
      for (k = 0; !wide && k < n; k++)
        if (small[k] != codes[k]) stop(t->name, "int8 and int32 differ");
      fwrite(codes, 4, (size_t)n, stdout);
    } else if (mqatc_unpack_int8(t, file, bytes, small, n) != MQATC_RANGE) {
      stop(t->name, "floats unpacked to int8");
    }
    check(t, mqatc_unpack_float(t, file, bytes, values, n));
    fwrite(values, 4, (size_t)n, stdout);
    if (mqatc_unpack_float(t, file, bytes, values, n + 1) != MQATC_BAD_LENGTH) stop(t->name, "wrong length accepted");
    if (t->bytes > 0) {
      if (mqatc_check(t, t->offset + t->bytes - 1) != MQATC_OUT_OF_FILE) stop(t->name, "short file accepted");
      file[t->offset] ^= 1;
      if (mqatc_verify(t, file, bytes) != MQATC_BAD_CHECKSUM) stop(t->name, "damage not seen");
      file[t->offset] ^= 1;
    }
    free(codes);
    free(small);
    free(values);
  }
  free(file);
  return 0;
}
