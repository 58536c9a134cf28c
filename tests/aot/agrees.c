/* Compares a compiled model with reference outputs, through graphc.h alone.
 *
 *   agrees FOLDER TOLERANCE [THREADS]
 *
 * FOLDER holds one folder a run, in the order of their names: `in/NAME.npy` for each input and `out/NAME.npy` for each output that is
 * compared. The function is the first one of the model that has these inputs and outputs. MODEL is the symbol of the model.
 */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graphc.h"

extern const graphc_model MODEL;

enum { MOST_PORTS = 64, MOST_RANK = 16 };

/* An array of a npy file. */
typedef struct {
  char type[16]; /* NumPy's name */
  int64_t dims[MOST_RANK];
  size_t rank, count, width; /* elements, and bytes of one */
  char *bytes;
  graphc_string *strings;
} array;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void *memory(size_t bytes) {
  void *p = calloc(1, bytes ? bytes : 1);
  if (!p) fail("calloc", "no memory");
  return p;
}

/* Reads a npy file; 0 if there is none. */
static int load(const char *path, array *a) {
  FILE *f = fopen(path, "rb");
  if (!f) return 0;
  unsigned char head[10];
  if (fread(head, 1, 10, f) != 10 || memcmp(head, "\x93NUMPY\x01", 7)) fail(path, "no npy file of version 1");
  size_t length = head[8] | (size_t)head[9] << 8;
  char *text = memory(length + 1);
  if (fread(text, 1, length, f) != length) fail(path, "cut off");
  char *type = strstr(text, "'descr': '"), *shape = strstr(text, "'shape': (");
  if (!type || !shape || strstr(text, "'fortran_order': True")) fail(path, "a header that is not understood");
  memset(a, 0, sizeof *a);
  sscanf(type + 10, "%15[^']", a->type);
  a->count = 1;
  for (char *at = shape + 10; *at != ')';) {
    char *end;
    long long d = strtoll(at, &end, 10);
    if (end == at || a->rank == MOST_RANK) break;
    a->dims[a->rank++] = d;
    a->count *= (size_t)d;
    for (at = end; *at == ',' || *at == ' '; at++) {
    }
  }
  a->width = (size_t)atoi(a->type + 2);
  a->bytes = memory(a->count * a->width);
  if (fread(a->bytes, a->width, a->count, f) != a->count) fail(path, "cut off");
  fclose(f);
  free(text);
  if (a->type[1] == 'S') {
    a->strings = memory(a->count * sizeof *a->strings);
    for (size_t k = 0; k < a->count; k++) {
      const char *s = a->bytes + k * a->width;
      size_t n = a->width;
      while (n && !s[n - 1]) n--;
      a->strings[k].data = s;
      a->strings[k].size = n;
    }
  }
  return 1;
}

static void let_go(array *a) {
  free(a->bytes);
  free(a->strings);
}

/* Element k as a number. */
static double number(const char *type, const void *data, size_t k) {
  if (!strcmp(type, "<f4")) return ((const float *)data)[k];
  if (!strcmp(type, "<f8")) return ((const double *)data)[k];
  if (!strcmp(type, "<i4")) return ((const int32_t *)data)[k];
  if (!strcmp(type, "<i8")) return (double)((const int64_t *)data)[k];
  if (!strcmp(type, "|b1") || !strcmp(type, "|u1")) return ((const uint8_t *)data)[k];
  fail(type, "a type that is not compared");
  return 0;
}

/* The greatest difference to the reference, relative to its scale. */
static double difference(graphc_call *call, size_t k, const char *name, const array *want) {
  const int64_t *dims;
  size_t rank;
  if (graphc_output_dims(call, k, &dims, &rank) != GRAPHC_OK) fail(name, graphc_error(call));
  if (rank != want->rank || memcmp(dims, want->dims, rank * sizeof *dims)) fail(name, "another shape");
  const void *data = graphc_output_data(call, k);
  if (want->strings) {
    const graphc_string *got = data;
    for (size_t i = 0; i < want->count; i++) {
      if (got[i].size != want->strings[i].size || memcmp(got[i].data, want->strings[i].data, got[i].size)) return 1;
    }
    return 0;
  }
  double scale = 1e-30, worst = 0;
  for (size_t i = 0; i < want->count; i++) {
    double w = number(want->type, want->bytes, i);
    scale = fmax(scale, fabs(w));
    worst = fmax(worst, fabs(number(want->type, data, i) - w));
  }
  return worst / scale;
}

/* Whether a file for every input of a function, and for an output, lies in the folder. */
static int fits(const char *folder, size_t function, array *inputs) {
  size_t count = graphc_input_count(&MODEL, function), found = 0;
  for (size_t k = 0; k < graphc_output_count(&MODEL, function); k++) {
    graphc_port port;
    char path[4096];
    graphc_output(&MODEL, function, k, &port);
    snprintf(path, sizeof path, "%s/out/%s.npy", folder, port.name);
    FILE *f = fopen(path, "rb");
    if (f) found++, fclose(f);
  }
  if (!found) return 0;
  for (size_t k = 0; k < count; k++) {
    graphc_port port;
    char path[4096];
    graphc_input(&MODEL, function, k, &port);
    snprintf(path, sizeof path, "%s/in/%s.npy", folder, port.name);
    if (k == MOST_PORTS || !load(path, &inputs[k])) {
      while (k--) let_go(&inputs[k]);
      return 0;
    }
  }
  return 1;
}

static double run(const graphc_instance *instance, const char *folder) {
  array inputs[MOST_PORTS];
  size_t function = 0;
  double worst = 0;
  while (function < graphc_function_count(&MODEL) && !fits(folder, function, inputs)) function++;
  if (function == graphc_function_count(&MODEL)) fail(folder, "no function has these inputs and outputs");
  graphc_call *call;
  if (graphc_call_create(instance, function, &call) != GRAPHC_OK) fail(folder, "no call");
  for (size_t k = 0; k < graphc_input_count(&MODEL, function); k++) {
    const void *data = inputs[k].strings ? (void *)inputs[k].strings : inputs[k].bytes;
    if (graphc_set_input(call, k, data, inputs[k].dims, inputs[k].rank) != GRAPHC_OK) fail(folder, graphc_error(call));
  }
  if (graphc_run(call) != GRAPHC_OK) fail(folder, graphc_error(call));
  for (size_t k = 0; k < graphc_output_count(&MODEL, function); k++) {
    graphc_port port;
    char path[4096];
    array want;
    graphc_output(&MODEL, function, k, &port);
    snprintf(path, sizeof path, "%s/out/%s.npy", folder, port.name);
    if (!load(path, &want)) continue;
    worst = fmax(worst, difference(call, k, port.name, &want));
    let_go(&want);
  }
  for (size_t k = 0; k < graphc_input_count(&MODEL, function); k++) let_go(&inputs[k]);
  graphc_call_destroy(call);
  return worst;
}

static int visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }

int main(int argc, char **argv) {
  if (argc < 3) fail(argv[0], "FOLDER TOLERANCE [THREADS]");
  graphc_instance *instance;
  graphc_options options = {sizeof options};
  char error[400] = "";
  double tolerance = atof(argv[2]);
  int wrong = 0;
  options.threads = argc > 3 ? (size_t)atoi(argv[3]) : 1;
  options.error = error;
  options.error_bytes = sizeof error;
  if (graphc_create(&MODEL, &options, &instance) != GRAPHC_OK) fail("create", error);
  struct dirent **runs;
  int count = scandir(argv[1], &runs, visible, alphasort);
  if (count <= 0) fail(argv[1], "no runs");
  for (int k = 0; k < count; k++) {
    char folder[2048];
    snprintf(folder, sizeof folder, "%s/%s", argv[1], runs[k]->d_name);
    double worst = run(instance, folder);
    printf("%s: %.3g\n", runs[k]->d_name, worst);
    wrong |= !(worst <= tolerance);
    free(runs[k]);
  }
  free(runs);
  graphc_destroy(instance);
  return wrong;
}
