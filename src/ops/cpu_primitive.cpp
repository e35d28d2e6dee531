#include "ops/cpu_primitive.h"

#include <mlx/allocator.h>
#include <mlx/backend/cpu/encoder.h>
#include <mlx/primitives.h>

#include <stdexcept>

#include "base/check.h"

namespace mlx_flash::ops {

namespace {

class FunctionPrimitive : public mx::Primitive {
 public:
  FunctionPrimitive(const char* name, mx::Stream stream, CpuBody body)
      : Primitive(stream), name_(name), body_(std::move(body)) {}

  const char* name() const override {
    return name_;
  }

  // Runs on the thread that evaluates: allocates and queues.
  void eval_cpu(
      const std::vector<mx::array>& inputs,
      std::vector<mx::array>& outputs) override {
    std::vector<mx::array> in;
    std::vector<mx::array> out;
    for (const auto& input : inputs) {
      MLX_FLASH_CHECK(input.flags().row_contiguous);
      in.push_back(mx::array::unsafe_weak_copy(input));
    }
    for (auto& output : outputs) {
      output.set_data(mx::allocator::malloc(output.nbytes()));
      out.push_back(mx::array::unsafe_weak_copy(output));
    }
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([body = std::move(body_),
                      in = std::move(in),
                      out = std::move(out)]() mutable { body(in, out); });
  }

  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&)
      override {
    throw std::logic_error("[ops] a CPU primitive was put on a GPU stream");
  }

 private:
  const char* name_;
  CpuBody body_; // moved out by the one evaluation
};

} // namespace

std::vector<mx::array> cpu_primitive(
    const char* name,
    mx::Stream stream,
    std::vector<mx::Shape> shapes,
    const std::vector<mx::Dtype>& dtypes,
    const std::vector<mx::array>& inputs,
    CpuBody body) {
  return mx::array::make_arrays(
      std::move(shapes),
      dtypes,
      std::make_shared<FunctionPrimitive>(name, stream, std::move(body)),
      inputs);
}

mx::array cpu_primitive(
    const char* name,
    mx::Stream stream,
    mx::Shape shape,
    std::vector<mx::array> inputs,
    CpuBody body) {
  return mx::array(
      std::move(shape),
      mx::float32,
      std::make_shared<FunctionPrimitive>(name, stream, std::move(body)),
      std::move(inputs));
}

} // namespace mlx_flash::ops
