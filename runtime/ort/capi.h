#ifndef MQATC_ORT_CAPI_H
#define MQATC_ORT_CAPI_H

#include <stddef.h>
#include <stdint.h>

// A table of the functions of onnxruntime's C API that the Go binding does not offer. OrtApi is a struct of function
// pointers whose order is ABI: members are only ever appended. The numbers in capi.c are the members' positions, read
// from onnxruntime_c_api.h of API version 24 (https://onnxruntime.ai/docs/api/c/struct_ort_api.html).

typedef struct {
  char *error;  // NULL when all went well; to be freed
} ort_result;

// Calls OrtGetApiBase at base_fn. version is set even where the API version is not offered (return 1).
int ort_attach(void *base_fn, uint32_t api_version, const char **version);

ort_result ort_providers(char ***names, int *n);
void ort_free_providers(char **names, int n);
const char *ort_build_info(void);

ort_result ort_set_deterministic(void *options);
ort_result ort_add_external_files(void *options, const void **names, char **data, const size_t *sizes, size_t n);

ort_result ort_count(void *session, int outputs, size_t *n);
// Fills name (to be freed with free), type, rank; elem is 0 for what is not a tensor, rank -1 where unknown.
ort_result ort_info(void *session, int outputs, size_t i, char **name, int *elem, int *rank);
// Fills rank sizes (-1 where unknown) and rank symbols (to be freed with free).
ort_result ort_info_dims(void *session, int outputs, size_t i, int64_t *dims, char **symbols, int rank);

ort_result ort_new_tensor(void *data, size_t size, const int64_t *dims, size_t rank, int elem, void **value);
void ort_release_value(void *value);
ort_result ort_tensor(void *value, int *elem, int *rank, void **data);
ort_result ort_tensor_dims(void *value, int64_t *dims, int rank);

ort_result ort_run(void *session, char **in_names, void **in, size_t n_in, char **out_names, size_t n_out, void **out);
ort_result ort_bind(void *binding, int output, const char *name, void *value);
ort_result ort_end_profiling(void *session, char **path);

// Zeroed memory aligned to 64 bytes, and its release.
void *ort_aligned(size_t size);
void ort_aligned_free(void *p, size_t size); // of ort_aligned(size)
// Gives memory that is free, but kept for what comes, back to the system.
void ort_trim(void);

#endif
