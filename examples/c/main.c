/* Runs a model that `graphc compile` made into an object file.
 *
 *   graphc compile tests/golden/mlp/saved_model -o mlp.o
 *   cc -I. examples/c/main.c mlp.o target/release/libgraphc_rt.a -lm -lpthread -ldl -o demo
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "mlp.h"

int main(int argc, char **argv) {
  int64_t batch = argc > 1 ? atoi(argv[1]) : 3;
  float *x = malloc(sizeof(float) * 64 * batch);
  float *y = malloc(sizeof(float) * 10 * batch);
  if (!x || !y) return 1;
  for (int64_t i = 0; i < 64 * batch; i++) x[i] = sinf((float)i);

  mlp_io io = {0};
  io.n = batch;
  io.x = x;
  io.output = y;
  int status = mlp(&io);
  if (status != GRAPHC_OK) {
    fprintf(stderr, "mlp failed with status %d\n", status);
    return 1;
  }

  for (int64_t row = 0; row < batch; row++) {
    float sum = 0;
    int best = 0;
    for (int k = 0; k < 10; k++) {
      float p = y[row * 10 + k];
      sum += p;
      if (p > y[row * 10 + best]) best = k;
    }
    printf("row %lld: class %d with probability %.4f\n", (long long)row, best, y[row * 10 + best]);
    if (fabsf(sum - 1) > 1e-5f) {
      fprintf(stderr, "the probabilities sum to %f\n", sum);
      return 1;
    }
  }
  free(x);
  free(y);
  return 0;
}
