// The experts of a SwiGLU mixture-of-experts layer, several at once:
//   y = down(silu(gate(x)) * up(x))
// gate and up are [inner, hidden], down is [hidden, inner].
//
// Same bits: each row's result is that of the steps one after the other
// (matmul, swiglu, matmul) on that row alone.
#pragma once

#include <span>

#include "kernels/matmul.h"

namespace mlx_flash::kernels {

// The weights of one expert. All experts of a call have the same shapes and
// forms.
struct Expert {
  Matrix gate;
  Matrix up;
  Matrix down;
};

// One expert and its rows: y[r] for row rows[r] of x, y.count of them.
struct ExpertTask {
  Expert expert;
  const uint32_t* rows = nullptr;
  MutableRows y; // rows of `hidden` numbers
};

// Rows of a layer's input made ready for gate and up of its experts.
struct ExpertInputs {
  PreparedRows gate;
  PreparedRows up;
};
size_t
expert_inputs_floats(const Expert& form, Precision precision, int64_t rows);
ExpertInputs prepare_expert_inputs(
    ThreadPool& pool,
    const Expert& form,
    Precision precision,
    const ConstRows& x,
    float* memory);

void expert_mlps(
    ThreadPool& pool,
    Scratch& scratch,
    Precision precision,
    const ExpertInputs& inputs,
    std::span<const ExpertTask> tasks);

// The same for all rows of x and one expert, or the MLP of a dense layer.
void swiglu_mlp(
    ThreadPool& pool,
    Scratch& scratch,
    Precision precision,
    const Expert& expert,
    const ConstRows& x,
    const MutableRows& y);
size_t swiglu_mlp_scratch_floats(
    const Expert& form,
    Precision precision,
    int64_t rows,
    int threads);

// Floats of scratch that expert_mlps() needs when the tasks of a call have at
// most `pairs` rows together and `rows` each: for the budget.
size_t expert_mlps_scratch_floats(
    const Expert& form,
    Precision precision,
    int64_t rows,
    int64_t pairs,
    int threads);

// y[r] for row r of x, in double precision, x and what lies between the
// products rounded as under `precision`.
void reference_expert_mlp(
    Precision precision,
    const Expert& expert,
    const ConstRows& x,
    const MutableRows& y);

} // namespace mlx_flash::kernels
