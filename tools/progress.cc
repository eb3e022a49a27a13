// SPDX-License-Identifier: MIT
#include "progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "terminal.h"

namespace vballoon::tool {
namespace {

constexpr int kBarWidth = 24;

}  // namespace

Tick part_of(const Tick& tick, double from, double to) {
  return [&tick, from, to](double done) { return tick(from + (to - from) * done); };
}

Progress::Progress(bool wanted)
    : enabled_(wanted && stderr_is_terminal()), colour_(colour_wanted()) {}

Progress::~Progress() { clear(); }

void Progress::begin(std::string_view label, double from, double to) {
  label_ = label;
  from_ = from;
  to_ = to;
  done_ = 0;
  next_draw_ = {};
  update(0);
}

void Progress::update(double done) {
  if (!enabled_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_draw_) return;
  next_draw_ = now + std::chrono::milliseconds(100);
  done_ = std::clamp(done, 0.0, 1.0);
  draw();
}

void Progress::draw() {
  const double all = from_ + (to_ - from_) * done_;
  const int full = static_cast<int>(all * kBarWidth);
  const std::string bar = std::string(static_cast<std::size_t>(full), '=') +
                          std::string(static_cast<std::size_t>(kBarWidth - full), ' ');
  fmt::print(stderr, "\r{}[{}]{} {:3.0f} %  {}\x1b[K", colour_ ? "\x1b[32m" : "", bar,
             colour_ ? "\x1b[0m" : "", all * 100, label_);
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::clear() {
  if (!drawn_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace vballoon::tool
