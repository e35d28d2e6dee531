// Our own functions as nodes of MLX's lazy graph, on a CPU stream.
#pragma once

#include <mlx/array.h>
#include <mlx/stream.h>

#include <functional>
#include <vector>

namespace mlx_flash::ops {

namespace mx = mlx::core;

// Runs on the stream's worker thread, in graph order. Inputs are
// row-contiguous; outputs are allocated and uninitialised. Must write every
// output and must not throw: MLX would run what depends on it all the same.
using CpuBody = std::function<void(
    const std::vector<mx::array>& inputs,
    std::vector<mx::array>& outputs)>;

std::vector<mx::array> cpu_primitive(
    const char* name,
    mx::Stream stream,
    std::vector<mx::Shape> shapes,
    const std::vector<mx::Dtype>& dtypes,
    const std::vector<mx::array>& inputs,
    CpuBody body);

// The same with a single f32 output.
mx::array cpu_primitive(
    const char* name,
    mx::Stream stream,
    mx::Shape shape,
    std::vector<mx::array> inputs,
    CpuBody body);

} // namespace mlx_flash::ops
