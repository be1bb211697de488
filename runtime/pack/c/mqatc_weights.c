#include "mqatc_weights.h"

#include <string.h>

#define MAX_RANK 64

const char *mqatc_message(mqatc_status s) {
  static const char *const text[MQATC_END_OF_STATUS] = {
      "no error",
      "the entry of the tensor contradicts itself",
      "the tensor lies beyond the end of the file",
      "the tensor's checksum differs",
      "the length is not the number of elements",
      "a code is not in the packing or codebook",
      "a code does not fit the output",
  };
  return (unsigned)s < MQATC_END_OF_STATUS ? text[s] : "unknown status";
}

/* count stores the number of elements; 0 when the shape is no shape. */
static int count(const mqatc_tensor *t, uint64_t *n) {
  uint32_t i;
  int zero = 0;
  uint64_t k = 1;
  if (t->rank > MAX_RANK || (t->rank > 0 && !t->shape)) return 0;
  for (i = 0; i < t->rank; i++) {
    int64_t d = t->shape[i];
    if (d < 0) return 0;
    if (d == 0) {
      zero = 1;
      continue;
    }
    if (k > (uint64_t)INT64_MAX / (uint64_t)d) return 0;
    k *= (uint64_t)d;
  }
  *n = zero ? 0 : k;
  return *n <= (uint64_t)(INT64_MAX / 64 - 8);
}

uint64_t mqatc_elements(const mqatc_tensor *t) {
  uint64_t n = 0;
  return count(t, &n) ? n : 0;
}

static int width_known(const mqatc_tensor *t) {
  switch (t->packing) {
    case MQATC_INT:
      return (t->width >= 2 && t->width <= 8) || t->width == 16 || t->width == 32;
    case MQATC_UINT:
      return (t->width >= 1 && t->width <= 8) || t->width == 16;
    case MQATC_BINARY:
      return t->width == 1;
    case MQATC_TERNARY:
      return t->width == 8;
    case MQATC_FLOAT:
      return t->width == 16 || t->width == 32 || t->width == 64;
    case MQATC_BFLOAT:
      return t->width == 16;
  }
  return 0;
}

static int is_float(const mqatc_tensor *t) { return t->packing == MQATC_FLOAT || t->packing == MQATC_BFLOAT; }

mqatc_status mqatc_check(const mqatc_tensor *t, uint64_t size) {
  uint64_t n, bytes;
  if (!count(t, &n) || !width_known(t)) return MQATC_BAD_TENSOR;
  bytes = t->packing == MQATC_TERNARY ? (n + 4) / 5 : (n * t->width + 7) / 8;
  if (bytes != t->bytes) return MQATC_BAD_TENSOR;
  if (t->bytes > size || t->offset > size - t->bytes) return MQATC_OUT_OF_FILE;
  if (t->axis < -1 || t->axis >= (int32_t)t->rank) return MQATC_BAD_TENSOR;
  if (t->axis < 0 ? t->num_scales > 1 : (int64_t)t->num_scales != t->shape[t->axis]) return MQATC_BAD_TENSOR;
  if (t->num_zero_points > 0 && t->num_zero_points != (t->num_scales > 0 ? t->num_scales : 1)) return MQATC_BAD_TENSOR;
  if (t->num_codebook > 0 && t->packing != MQATC_UINT) return MQATC_BAD_TENSOR;
  if (is_float(t) && t->num_zero_points > 0) return MQATC_BAD_TENSOR;
  if ((t->num_scales > 0 && !t->scales) || (t->num_zero_points > 0 && !t->zero_points) || (t->num_codebook > 0 && !t->codebook))
    return MQATC_BAD_TENSOR;
  return MQATC_OK;
}

mqatc_status mqatc_verify(const mqatc_tensor *t, const void *file, uint64_t size) {
  mqatc_status s = mqatc_check(t, size);
  const uint8_t *p;
  uint32_t crc = 0xffffffffu;
  uint64_t i;
  int bit;
  if (s != MQATC_OK) return s;
  p = (const uint8_t *)file + t->offset;
  for (i = 0; i < t->bytes; i++) {
    crc ^= p[i];
    for (bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
  }
  return ~crc == t->crc32c ? MQATC_OK : MQATC_BAD_CHECKSUM;
}

/* A stream yields the codes of an integer packing one after another. */
typedef struct stream {
  const uint8_t *p;
  uint64_t bits;
  unsigned have, width, packing, digits;
} stream;

static void stream_open(stream *s, const mqatc_tensor *t, const void *file) {
  s->p = (const uint8_t *)file + t->offset;
  s->bits = 0;
  s->have = 0;
  s->width = t->width;
  s->packing = t->packing;
  s->digits = 0;
}

static int stream_next(stream *s, int32_t *code) {
  uint64_t v;
  if (s->packing == MQATC_TERNARY) {
    if (s->have == 0) {
      s->digits = *s->p++;
      s->have = 5;
      if (s->digits >= 243) return 0;
    }
    *code = (int32_t)(s->digits % 3) - 1;
    s->digits /= 3;
    s->have--;
    return 1;
  }
  while (s->have < s->width) {
    s->bits |= (uint64_t)*s->p++ << s->have;
    s->have += 8;
  }
  v = s->bits & (((uint64_t)1 << s->width) - 1);
  s->bits >>= s->width;
  s->have -= s->width;
  if (s->packing == MQATC_BINARY)
    *code = v ? 1 : -1;
  else if (s->packing == MQATC_INT && v >> (s->width - 1))
    *code = (int32_t)((int64_t)v - ((int64_t)1 << s->width));
  else
    *code = (int32_t)v;
  return 1;
}

/* start checks what all unpackers need. */
static mqatc_status start(const mqatc_tensor *t, uint64_t size, uint64_t n) {
  mqatc_status s = mqatc_check(t, size);
  if (s != MQATC_OK) return s;
  return mqatc_elements(t) == n ? MQATC_OK : MQATC_BAD_LENGTH;
}

mqatc_status mqatc_unpack_int32(const mqatc_tensor *t, const void *file, uint64_t size, int32_t *out, uint64_t n) {
  mqatc_status st = start(t, size, n);
  stream s;
  uint64_t i;
  if (st != MQATC_OK) return st;
  if (is_float(t)) return MQATC_RANGE;
  stream_open(&s, t, file);
  for (i = 0; i < n; i++)
    if (!stream_next(&s, &out[i])) return MQATC_BAD_CODE;
  return MQATC_OK;
}

mqatc_status mqatc_unpack_int8(const mqatc_tensor *t, const void *file, uint64_t size, int8_t *out, uint64_t n) {
  mqatc_status st = start(t, size, n);
  stream s;
  uint64_t i;
  int32_t code;
  if (st != MQATC_OK) return st;
  if (is_float(t)) return MQATC_RANGE;
  stream_open(&s, t, file);
  for (i = 0; i < n; i++) {
    if (!stream_next(&s, &code)) return MQATC_BAD_CODE;
    if (code < INT8_MIN || code > INT8_MAX) return MQATC_RANGE;
    out[i] = (int8_t)code;
  }
  return MQATC_OK;
}

static float from_bits(uint32_t b) {
  float f;
  memcpy(&f, &b, sizeof f);
  return f;
}

/* from_half widens an IEEE 754 binary16. */
static float from_half(uint32_t h) {
  uint32_t sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;
  if (exponent == 31) return from_bits(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) {
    if (fraction == 0) return from_bits(sign);
    exponent = 1;
    while (!(fraction & 0x400u)) {
      fraction <<= 1;
      exponent--;
    }
    fraction &= 0x3ffu;
  }
  return from_bits(sign | (exponent + 112u) << 23 | fraction << 13);
}

static float read_float(const mqatc_tensor *t, const uint8_t *p) {
  uint64_t b = 0;
  double d;
  int i;
  for (i = 0; i < t->width / 8; i++) b |= (uint64_t)p[i] << (8 * i);
  if (t->packing == MQATC_BFLOAT) return from_bits((uint32_t)b << 16);
  if (t->width == 16) return from_half((uint32_t)b);
  if (t->width == 32) return from_bits((uint32_t)b);
  memcpy(&d, &b, sizeof d);
  return (float)d;
}

mqatc_status mqatc_unpack_float(const mqatc_tensor *t, const void *file, uint64_t size, float *out, uint64_t n) {
  mqatc_status st = start(t, size, n);
  stream s;
  uint64_t i, inner = 1, channels = 1;
  uint32_t k;
  if (st != MQATC_OK) return st;
  if (t->axis >= 0 && n > 0) {
    channels = (uint64_t)t->shape[t->axis];
    for (k = (uint32_t)t->axis + 1; k < t->rank; k++) inner *= (uint64_t)t->shape[k];
  }
  if (is_float(t)) {
    const uint8_t *p = (const uint8_t *)file + t->offset;
    for (i = 0; i < n; i++) {
      float v = read_float(t, p + i * (t->width / 8));
      out[i] = t->num_scales > 0 ? v * t->scales[t->axis < 0 ? 0 : i / inner % channels] : v;
    }
    return MQATC_OK;
  }
  stream_open(&s, t, file);
  for (i = 0; i < n; i++) {
    int32_t code;
    float v;
    uint64_t c = t->axis < 0 ? 0 : i / inner % channels;
    if (!stream_next(&s, &code)) return MQATC_BAD_CODE;
    if (t->num_codebook > 0) {
      if ((uint32_t)code >= t->num_codebook) return MQATC_BAD_CODE;
      v = t->codebook[code];
    } else if (t->num_zero_points > 0) {
      v = (float)((int64_t)code - t->zero_points[c]);
    } else {
      v = (float)code;
    }
    out[i] = t->num_scales > 0 ? v * t->scales[c] : v;
  }
  return MQATC_OK;
}
