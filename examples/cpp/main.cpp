// Two instances of one model in a static library, each used by a thread of its own.
//
//   graphc compile tests/golden/mlp/saved_model -o libmlp.a
//   c++ -I. examples/cpp/main.cpp libmlp.a -lm -lpthread -o demo
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "mlp.h"

namespace {

struct Destroy {
  void operator()(graphc_instance *instance) const { graphc_destroy(instance); }
  void operator()(graphc_call *call) const { graphc_call_destroy(call); }
};

/* The class that the model sees in each row of an input. */
class Classifier {
 public:
  Classifier() {
    graphc_instance *instance = nullptr;
    if (graphc_create(&mlp_model, nullptr, &instance) != GRAPHC_OK) throw std::runtime_error("no instance");
    instance_.reset(instance);
    graphc_call *call = nullptr;
    if (graphc_call_create(instance, mlp_serving_default, &call) != GRAPHC_OK) throw std::runtime_error("no call");
    call_.reset(call);
  }

  std::vector<int> classify(const std::vector<float> &x) {
    const int64_t rows = static_cast<int64_t>(x.size() / 64);
    check(mlp_serving_default_set_x(call_.get(), x.data(), rows));
    check(graphc_run(call_.get()));
    const float *y = mlp_serving_default_get_output(call_.get());
    std::vector<int> classes;
    for (int64_t row = 0; row < rows; row++) {
      int best = 0;
      for (int k = 1; k < 10; k++)
        if (y[row * 10 + k] > y[row * 10 + best]) best = k;
      classes.push_back(best);
    }
    return classes;
  }

 private:
  void check(graphc_status status) {
    if (status != GRAPHC_OK) throw std::runtime_error(graphc_error(call_.get()));
  }

  // The call goes before its instance.
  std::unique_ptr<graphc_instance, Destroy> instance_;
  std::unique_ptr<graphc_call, Destroy> call_;
};

}  // namespace

int main() {
  std::vector<float> x(64 * 5);
  for (size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(i % 7) - 3;
  std::vector<int> first, second;
  std::thread other([&] { first = Classifier().classify(x); });
  second = Classifier().classify(x);
  other.join();
  if (first != second) {
    std::fprintf(stderr, "two instances disagree\n");
    return 1;
  }
  for (int c : first) std::printf("class %d\n", c);
  return 0;
}
