/* Runs a model that `graphc compile` made into an object file, on the caller's memory alone.
 *
 *   graphc compile tests/golden/mlp/saved_model -o mlp.o
 *   cc -I. examples/c/main.c mlp.o target/rt/libgraphc_rt.a -lm -lpthread -o demo
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "mlp.h"

static int failed(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  return 1;
}

int main(int argc, char **argv) {
  int64_t batch = argc > 1 ? atoi(argv[1]) : 3;
  graphc_instance *instance;
  graphc_call *call;
  char error[200] = "";
  graphc_options options = {sizeof options};
  options.threads = 2;
  options.error = error;
  options.error_bytes = sizeof error;
  if (graphc_create(&mlp_model, &options, &instance) != GRAPHC_OK) return failed("create", error);
  if (graphc_call_create(instance, mlp_serving_default, &call) != GRAPHC_OK) return failed("call", "no memory");

  float *x = malloc(sizeof(float) * 64 * batch);
  float *y = malloc(sizeof(float) * 10 * batch);
  if (!x || !y) return failed("malloc", "no memory");
  for (int64_t i = 0; i < 64 * batch; i++) x[i] = sinf((float)i);

  size_t bytes;
  if (mlp_serving_default_set_x(call, x, batch) != GRAPHC_OK) return failed("input", graphc_error(call));
  graphc_set_output(call, 0, y, sizeof(float) * 10 * batch);
  if (graphc_workspace_bytes(call, &bytes) != GRAPHC_OK) return failed("workspace", graphc_error(call));
  void *workspace = malloc(bytes);
  if (!workspace) return failed("malloc", "no memory");
  graphc_set_workspace(call, workspace, bytes);
  if (graphc_run(call) != GRAPHC_OK) return failed("run", graphc_error(call));

  for (int64_t row = 0; row < batch; row++) {
    float sum = 0;
    int best = 0;
    for (int k = 0; k < 10; k++) {
      float p = y[row * 10 + k];
      sum += p;
      if (p > y[row * 10 + best]) best = k;
    }
    printf("row %lld: class %d with probability %.4f\n", (long long)row, best, y[row * 10 + best]);
    if (fabsf(sum - 1) > 1e-5f) return failed("answer", "the probabilities do not sum to one");
  }

  /* A wrong input is told, and the call can be used again. */
  const int64_t wrong[] = {batch, 63};
  if (graphc_set_input(call, 0, x, wrong, 2) != GRAPHC_INVALID_ARGUMENT) return failed("input", "a wrong shape was taken");
  if (graphc_run(call) != GRAPHC_OK) return failed("run", graphc_error(call));

  graphc_call_destroy(call);
  graphc_destroy(instance);
  free(workspace);
  free(x);
  free(y);
  return 0;
}
