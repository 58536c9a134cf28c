/* graphc: runs models that `graphc compile` made into objects or libraries.
 *
 * An object exports one symbol, `const graphc_model NAME_model`. Link it with libgraphc_rt.a, -lm and -lpthread; a shared library has
 * all of that in it already. An object with functions in stages, which `graphc compile` tells, takes libgraphc_rt_full.a instead.
 *
 *     graphc_instance *instance;                        the model's state, and the threads that compute
 *     graphc_call *call;                                one function, with its inputs, outputs and memory
 *     graphc_create(&mlp_model, NULL, &instance);
 *     graphc_call_create(instance, 0, &call);
 *     graphc_set_input(call, 0, x, dims, 2);            nothing is copied
 *     graphc_run(call);
 *     const float *y = graphc_output_data(call, 0);
 *
 * Tensors are row-major. A call is used by one thread at a time; any number of calls of one instance may run at once, and those that
 * use the model's variables wait for each other. Every instance has variables of its own. Nothing here throws, and nothing is written
 * to standard output or error. A run whose shapes are those of the last one allocates no memory.
 *
 * Functions in stages work on strings, tables, or values that decide what is computed: compiled parts, and library functions between
 * them. They allocate memory as they run, use no workspace, and tell the extents of outputs after a run: the functions that ask for
 * them before return GRAPHC_FAILED_PRECONDITION.
 *
 * This interface is stable: fields are only added, at the end of structures that tell their size. Usable from C99 and C++.
 */
#ifndef GRAPHC_H
#define GRAPHC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this interface and of the objects that it runs. */
#define GRAPHC_VERSION 2

typedef struct graphc_model graphc_model;
typedef struct graphc_instance graphc_instance;
typedef struct graphc_call graphc_call;

/* What functions return. The numbers are those of TensorFlow's status codes. */
typedef int32_t graphc_status;
enum {
  GRAPHC_OK = 0,
  GRAPHC_CANCELLED = 1,
  GRAPHC_UNKNOWN = 2,
  GRAPHC_INVALID_ARGUMENT = 3,
  GRAPHC_DEADLINE_EXCEEDED = 4,
  GRAPHC_NOT_FOUND = 5,
  GRAPHC_ALREADY_EXISTS = 6,
  GRAPHC_PERMISSION_DENIED = 7,
  GRAPHC_RESOURCE_EXHAUSTED = 8,
  GRAPHC_FAILED_PRECONDITION = 9,
  GRAPHC_ABORTED = 10,
  GRAPHC_OUT_OF_RANGE = 11,
  GRAPHC_UNIMPLEMENTED = 12,
  GRAPHC_INTERNAL = 13,
  GRAPHC_UNAVAILABLE = 14,
  GRAPHC_DATA_LOSS = 15
};

/* Types of elements. The numbers are those of TensorFlow's DataType. */
enum {
  GRAPHC_FLOAT32 = 1,
  GRAPHC_FLOAT64 = 2,
  GRAPHC_INT32 = 3,
  GRAPHC_UINT8 = 4,
  GRAPHC_INT16 = 5,
  GRAPHC_INT8 = 6,
  GRAPHC_STRING = 7,
  GRAPHC_COMPLEX64 = 8,
  GRAPHC_INT64 = 9,
  GRAPHC_BOOL = 10,
  GRAPHC_BFLOAT16 = 14,
  GRAPHC_UINT16 = 17,
  GRAPHC_COMPLEX128 = 18,
  GRAPHC_FLOAT16 = 19,
  GRAPHC_UINT32 = 22,
  GRAPHC_UINT64 = 23
};

/* An element of a tensor of strings: bytes, which need not end with a zero. Those of an output belong to the call. */
typedef struct graphc_string {
  const char *data;
  size_t size;
} graphc_string;

/* An input or output of a function. */
typedef struct graphc_port {
  const char *name;
  int32_t dtype;
  int32_t rank;        /* -1 where the model leaves it open */
  const int64_t *dims; /* `rank` extents, -1 where open */
  size_t element_bytes;
} graphc_port;

/* A part of a run: to be called once for each chunk, with the number of the thread that calls it (the caller of a run is 0). */
typedef void graphc_body(const void *data, size_t chunk, size_t worker);
/* Calls `body` for each chunk below `chunks`, from at most `threads` threads, and returns when all calls have. */
typedef void graphc_parallel_for(const void *pool, size_t chunks, graphc_body *body, const void *data);

/* How an instance is made. Zero it, then set `size` to sizeof(graphc_options) and what is wanted. */
typedef struct graphc_options {
  size_t size;
  size_t threads;                    /* that compute, the caller's included; 0 means 1 */
  graphc_parallel_for *parallel_for; /* a pool of the caller's, of `threads` threads; NULL: the instance starts its own */
  const void *pool;                  /* handed to parallel_for */
  const char *weights_path;          /* the file of weights of a model that has one, which is mapped; or */
  const void *weights;               /* its content in memory, aligned to 64 bytes, which outlives the instance */
  size_t weights_bytes;
  char *error; /* where the message of an error goes, or NULL */
  size_t error_bytes;
  const char *const *files; /* folders in which ops of functions in stages may read and write files; without any they may not */
  size_t files_count;
} graphc_options;

/* GRAPHC_VERSION of the library that is linked. */
uint32_t graphc_version(void);

/* What a model has. Functions are the signatures that were compiled, the default one first. NULL and 0 for what is not there. */
const char *graphc_model_name(const graphc_model *model);
size_t graphc_function_count(const graphc_model *model);
const char *graphc_function_name(const graphc_model *model, size_t function);
size_t graphc_input_count(const graphc_model *model, size_t function);
size_t graphc_output_count(const graphc_model *model, size_t function);
graphc_status graphc_input(const graphc_model *model, size_t function, size_t input, graphc_port *port);
graphc_status graphc_output(const graphc_model *model, size_t function, size_t output, graphc_port *port);

/* An instance of a model; `options` may be NULL. */
graphc_status graphc_create(const graphc_model *model, const graphc_options *options, graphc_instance **instance);
/* Ends an instance, after all its calls. NULL is fine. */
void graphc_destroy(graphc_instance *instance);
/* Gives every variable its first value again. */
graphc_status graphc_reset(const graphc_instance *instance);

/* A call of a function. */
graphc_status graphc_call_create(const graphc_instance *instance, size_t function, graphc_call **call);
void graphc_call_destroy(graphc_call *call);

/* Binds an input: `data` is read in each run from now on. Strings are an array of graphc_string. */
graphc_status graphc_set_input(graphc_call *call, size_t input, const void *data, const int64_t *dims, size_t rank);
/* Binds memory for an output; without it, or with NULL, the call has its own. Strings always stay with the call. */
graphc_status graphc_set_output(graphc_call *call, size_t output, void *data, size_t bytes);
/* Binds working memory of at least graphc_workspace_bytes; without it, or with NULL, the call has its own. */
graphc_status graphc_set_workspace(graphc_call *call, void *data, size_t bytes);

/* Checks the inputs and works out all sizes. A run does it too; call it to know them before. */
graphc_status graphc_prepare(graphc_call *call);
/* Sizes for the inputs that are bound. `dims` is valid until an input is bound anew. */
graphc_status graphc_workspace_bytes(graphc_call *call, size_t *bytes);
graphc_status graphc_output_bytes(graphc_call *call, size_t output, size_t *bytes);
graphc_status graphc_output_dims(graphc_call *call, size_t output, const int64_t **dims, size_t *rank);

graphc_status graphc_run(graphc_call *call);
/* Where an output is after a run, until the next one. */
const void *graphc_output_data(const graphc_call *call, size_t output);
/* Ends the run that another thread is in with GRAPHC_CANCELLED. */
void graphc_cancel(const graphc_call *call);
/* What was wrong with the last call of a function on `call` that returned a status other than GRAPHC_OK. */
const char *graphc_error(const graphc_call *call);

#ifdef __cplusplus
}
#endif
#endif
