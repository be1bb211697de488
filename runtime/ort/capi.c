#include "capi.h"

#include <stdbool.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

static const void *const *api;
static void *memory_info;
static void *allocator;

typedef void *status_t;

enum {
  kGetErrorMessage = 2,
  kRun = 9,
  kSessionGetInputCount = 30,
  kSessionGetOutputCount = 31,
  kSessionGetInputTypeInfo = 33,
  kSessionGetOutputTypeInfo = 34,
  kSessionGetInputName = 36,
  kSessionGetOutputName = 37,
  kCreateTensorWithDataAsOrtValue = 49,
  kGetTensorMutableData = 51,
  kCastTypeInfoToTensorInfo = 55,
  kGetTensorElementType = 60,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetSymbolicDimensions = 63,
  kGetTensorTypeAndShape = 65,
  kGetValueType = 67,
  kCreateCpuMemoryInfo = 69,
  kAllocatorFree = 76,
  kGetAllocatorWithDefaultOptions = 78,
  kReleaseStatus = 93,
  kReleaseValue = 96,
  kReleaseTypeInfo = 98,
  kReleaseTensorTypeAndShapeInfo = 99,
  kSessionEndProfiling = 110,
  kGetAvailableProviders = 125,
  kReleaseAvailableProviders = 126,
  kBindInput = 136,
  kBindOutput = 137,
  kGetBuildInfoString = 254,
  kSetDeterministicCompute = 273,
  kAddExternalInitializersFromFilesInMemory = 279,
  kTensorTypeAndShapeHasShape = 390,
};

enum { kTensorType = 1, kArenaAllocator = 1, kMemTypeDefault = 0 };

#define CALL(k, ret, ...) ((ret(*)(__VA_ARGS__))api[k])

static ort_result done(status_t st) {
  ort_result r = {NULL};
  if (st != NULL) {
    const char *m = CALL(kGetErrorMessage, const char *, status_t)(st);
    r.error = strdup(m != NULL && *m != 0 ? m : "unknown error");
    CALL(kReleaseStatus, void, status_t)(st);
  }
  return r;
}

static ort_result fail(const char *m) {
  ort_result r = {strdup(m)};
  return r;
}

int ort_attach(void *base_fn, uint32_t api_version, const char **version) {
  typedef struct {
    const void *(*get_api)(uint32_t);
    const char *(*get_version)(void);
  } api_base;
  const api_base *base = ((const api_base *(*)(void))base_fn)();
  if (base == NULL) return 1;
  *version = base->get_version();
  const void *const *table = base->get_api(api_version);
  if (table == NULL) return 1;
  api = table;
  ort_result r = done(CALL(kCreateCpuMemoryInfo, status_t, int, int, void **)(kArenaAllocator, kMemTypeDefault, &memory_info));
  if (r.error == NULL) r = done(CALL(kGetAllocatorWithDefaultOptions, status_t, void **)(&allocator));
  if (r.error != NULL) {
    free(r.error);
    return 2;
  }
  return 0;
}

ort_result ort_providers(char ***names, int *n) {
  return done(CALL(kGetAvailableProviders, status_t, char ***, int *)(names, n));
}

void ort_free_providers(char **names, int n) {
  done(CALL(kReleaseAvailableProviders, status_t, char **, int)(names, n));
}

const char *ort_build_info(void) { return CALL(kGetBuildInfoString, const char *, void)(); }

ort_result ort_set_deterministic(void *options) {
  return done(CALL(kSetDeterministicCompute, status_t, void *, bool)(options, true));
}

ort_result ort_add_external_files(void *options, const void **names, char **data, const size_t *sizes, size_t n) {
  return done(CALL(kAddExternalInitializersFromFilesInMemory, status_t, void *, const void **, char **, const size_t *, size_t)(
      options, names, data, sizes, n));
}

ort_result ort_count(void *session, int outputs, size_t *n) {
  return done(CALL(outputs ? kSessionGetOutputCount : kSessionGetInputCount, status_t, void *, size_t *)(session, n));
}

static ort_result tensor_info(void *session, int outputs, size_t i, void **type, void **info) {
  *info = NULL;
  ort_result r = done(CALL(outputs ? kSessionGetOutputTypeInfo : kSessionGetInputTypeInfo, status_t, void *, size_t, void **)(
      session, i, type));
  if (r.error == NULL) r = done(CALL(kCastTypeInfoToTensorInfo, status_t, void *, void **)(*type, info));
  return r;
}

ort_result ort_info(void *session, int outputs, size_t i, char **name, int *elem, int *rank) {
  char *own = NULL;
  void *type = NULL, *info = NULL;
  *rank = -1;
  *elem = 0;
  ort_result r = done(CALL(outputs ? kSessionGetOutputName : kSessionGetInputName, status_t, void *, size_t, void *, char **)(
      session, i, allocator, &own));
  if (r.error != NULL) return r;
  *name = strdup(own);
  r = done(CALL(kAllocatorFree, status_t, void *, void *)(allocator, own));
  if (r.error == NULL) r = tensor_info(session, outputs, i, &type, &info);
  if (r.error == NULL && info != NULL) {
    size_t d = 0;
    r = done(CALL(kGetTensorElementType, status_t, void *, int *)(info, elem));
    if (r.error == NULL) r = done(CALL(kGetDimensionsCount, status_t, void *, size_t *)(info, &d));
    *rank = CALL(kTensorTypeAndShapeHasShape, bool, void *)(info) ? (int)d : -1;
  }
  if (type != NULL) CALL(kReleaseTypeInfo, void, void *)(type);
  return r;
}

ort_result ort_info_dims(void *session, int outputs, size_t i, int64_t *dims, char **symbols, int rank) {
  void *type = NULL, *info = NULL;
  const char **own = calloc((size_t)rank + 1, sizeof(char *));
  if (own == NULL) return fail("out of memory");
  ort_result r = tensor_info(session, outputs, i, &type, &info);
  if (r.error == NULL && info != NULL) {
    r = done(CALL(kGetDimensions, status_t, void *, int64_t *, size_t)(info, dims, (size_t)rank));
    if (r.error == NULL) r = done(CALL(kGetSymbolicDimensions, status_t, void *, const char **, size_t)(info, own, (size_t)rank));
    for (int k = 0; r.error == NULL && k < rank; k++) symbols[k] = strdup(own[k] != NULL ? own[k] : "");
  }
  if (type != NULL) CALL(kReleaseTypeInfo, void, void *)(type);
  free(own);
  return r;
}

ort_result ort_new_tensor(void *data, size_t size, const int64_t *dims, size_t rank, int elem, void **value) {
  return done(CALL(kCreateTensorWithDataAsOrtValue, status_t, void *, void *, size_t, const int64_t *, size_t, int, void **)(
      memory_info, data, size, dims, rank, elem, value));
}

void ort_release_value(void *value) {
  if (value != NULL) CALL(kReleaseValue, void, void *)(value);
}

ort_result ort_tensor(void *value, int *elem, int *rank, void **data) {
  int kind = 0;
  void *info = NULL;
  size_t d = 0;
  ort_result r = done(CALL(kGetValueType, status_t, void *, int *)(value, &kind));
  if (r.error != NULL) return r;
  if (kind != kTensorType) return fail("not a tensor");
  r = done(CALL(kGetTensorTypeAndShape, status_t, void *, void **)(value, &info));
  if (r.error != NULL) return r;
  r = done(CALL(kGetTensorElementType, status_t, void *, int *)(info, elem));
  if (r.error == NULL) r = done(CALL(kGetDimensionsCount, status_t, void *, size_t *)(info, &d));
  CALL(kReleaseTensorTypeAndShapeInfo, void, void *)(info);
  *rank = (int)d;
  if (r.error == NULL) r = done(CALL(kGetTensorMutableData, status_t, void *, void **)(value, data));
  return r;
}

ort_result ort_tensor_dims(void *value, int64_t *dims, int rank) {
  void *info = NULL;
  ort_result r = done(CALL(kGetTensorTypeAndShape, status_t, void *, void **)(value, &info));
  if (r.error != NULL) return r;
  r = done(CALL(kGetDimensions, status_t, void *, int64_t *, size_t)(info, dims, (size_t)rank));
  CALL(kReleaseTensorTypeAndShapeInfo, void, void *)(info);
  return r;
}

ort_result ort_run(void *session, char **in_names, void **in, size_t n_in, char **out_names, size_t n_out, void **out) {
  return done(CALL(kRun, status_t, void *, const void *, char **, void **, size_t, char **, size_t, void **)(
      session, NULL, in_names, in, n_in, out_names, n_out, out));
}

ort_result ort_bind(void *binding, int output, const char *name, void *value) {
  return done(CALL(output ? kBindOutput : kBindInput, status_t, void *, const char *, void *)(binding, name, value));
}

ort_result ort_end_profiling(void *session, char **path) {
  char *own = NULL;
  ort_result r = done(CALL(kSessionEndProfiling, status_t, void *, void *, char **)(session, allocator, &own));
  if (r.error != NULL) return r;
  *path = strdup(own);
  return done(CALL(kAllocatorFree, status_t, void *, void *)(allocator, own));
}

// Large memory is asked of the system itself: what malloc gives back to it depends on what else lies in the heap.
#ifdef __linux__
enum { kMapped = 1 << 20 };
#endif

void *ort_aligned(size_t size) {
  const size_t align = 64;
  if (size > SIZE_MAX - align - sizeof(void *)) return NULL;
#ifdef __linux__
  if (size >= kMapped) {
    void *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return m == MAP_FAILED ? NULL : m;
  }
#endif
  // The word before the returned address keeps what malloc gave, for free.
  char *p = malloc(size + align + sizeof(void *));
  if (p == NULL) return NULL;
  uintptr_t q = ((uintptr_t)p + sizeof(void *) + align - 1) & ~(uintptr_t)(align - 1);
  ((void **)q)[-1] = p;
  memset((void *)q, 0, size);
  return (void *)q;
}

void ort_aligned_free(void *p, size_t size) {
  if (p == NULL) return;
#ifdef __linux__
  if (size >= kMapped) {
    munmap(p, size);
    return;
  }
#endif
  (void)size;
  free(((void **)p)[-1]);
}

#ifdef __GLIBC__
// malloc_trim gives back the end of the first arena only, and each thread that loads a graph may take another one.
__attribute__((constructor)) static void one_arena(void) {
  const char *tunables = getenv("GLIBC_TUNABLES");
  if (getenv("MALLOC_ARENA_MAX") == NULL && (tunables == NULL || strstr(tunables, "arena_max") == NULL)) mallopt(M_ARENA_MAX, 1);
}
#endif

void ort_trim(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}
