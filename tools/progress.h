// SPDX-License-Identifier: MIT
// One line on stderr that says how far long work is; only on a terminal.
#ifndef VBALLOON_TOOLS_PROGRESS_H_
#define VBALLOON_TOOLS_PROGRESS_H_

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

namespace vballoon::tool {

// Asked now and then with how much of the work is done, 0 to 1; says whether to go on.
using Tick = std::function<bool(double done)>;

// The tick of a step that is the part [from, to] of the work; `tick` must outlive it.
[[nodiscard]] Tick part_of(const Tick& tick, double from, double to);

class Progress {
 public:
  // Draws only when `wanted` and stderr is a terminal.
  explicit Progress(bool wanted);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // What is being done, and the part of all the work that lies in it: [from, to] of 1.
  void begin(std::string_view label, double from, double to);
  // How much of it is done, 0 to 1. Cheap: redraws at most ten times a second.
  void update(double done);
  // Takes the line away.
  void clear();

 private:
  void draw();

  bool enabled_;
  bool colour_;
  bool drawn_ = false;
  std::string label_;
  double from_ = 0;
  double to_ = 0;
  double done_ = 0;
  std::chrono::steady_clock::time_point next_draw_{};
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_PROGRESS_H_
