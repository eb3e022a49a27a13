// SPDX-License-Identifier: MIT
#include "figures.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "sizes.h"

namespace vballoon::tool {
namespace {

// Takes the median of each field of the phase that `part` names.
Phase median_phase(const std::vector<RowRun>& runs, Phase RowRun::*part) {
  Phase median;
  const auto take = [&](const auto& fields) {
    for (const PhaseField& field : fields) {
      std::vector<double> values;
      values.reserve(runs.size());
      for (const RowRun& run : runs) values.push_back(run.*part.*field.value);
      median.*field.value = median_of(std::move(values));
    }
  };
  take(kHeadFields);
  take(kStageFields);
  take(kTailFields);
  return median;
}

}  // namespace

Phase inflation_of(const sim::ResizeReport& report) {
  Phase phase;
  phase.wall_ms = to_ms(report.wall);
  phase.guest_ms = to_ms(report.guest);
  // The stages run until the last answer; what lies behind the last byte is no wall time. It is
  // the wait for that answer, and more only when messages follow that free nothing.
  auto behind = std::max(report.guest - report.wall, std::chrono::nanoseconds(0));
  const auto before_the_last_byte = [&behind](std::chrono::nanoseconds stage) {
    const auto cut = std::min(stage, behind);
    behind -= cut;
    return to_ms(stage - cut);
  };
  phase.send_ms = before_the_last_byte(report.stages.send);
  phase.allocate_ms = before_the_last_byte(report.stages.allocate);
  phase.translate_ms = before_the_last_byte(report.stages.translate);
  phase.discard_ms = to_ms(report.stages.discard);
  phase.overlap_ms = to_ms(report.overlap);
  phase.kernel_ms = to_ms(report.kernel);
  phase.messages = static_cast<double>(report.driver.messages);
  phase.kicks = static_cast<double>(report.driver.kicks);
  phase.queue_bytes = static_cast<double>(report.device.queue_bytes);
  phase.discard_calls = static_cast<double>(report.device.discard_calls);
  phase.freed_bytes = static_cast<double>(report.device.freed_bytes);
  phase.owed_bytes = static_cast<double>(report.device.owed_bytes);
  phase.forgone_bytes = static_cast<double>(report.device.forgone_bytes);
  return phase;
}

Phase deflation_of(const sim::ResizeReport& report) {
  Phase phase = inflation_of(report);
  for (double Phase::*value : {&Phase::discard_ms, &Phase::discard_calls, &Phase::freed_bytes,
                               &Phase::owed_bytes, &Phase::forgone_bytes, &Phase::moved_pages}) {
    phase.*value = kDoesNotApply;
  }
  return phase;
}

double median_of(std::vector<double> values) {
  // NaN has no place in an order.
  if (std::ranges::any_of(values, [](double value) { return std::isnan(value); })) {
    return kDoesNotApply;
  }
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

RowRun median_of(const std::vector<RowRun>& runs) {
  RowRun median = runs.front();
  median.inflate = median_phase(runs, &RowRun::inflate);
  median.deflate = median_phase(runs, &RowRun::deflate);
  if (median.vcpu_loss_percent) {
    std::vector<double> losses;
    losses.reserve(runs.size());
    for (const RowRun& run : runs) losses.push_back(run.vcpu_loss_percent.value_or(0));
    median.vcpu_loss_percent = median_of(std::move(losses));
  }
  const auto broken = std::ranges::find(runs, false, &RowRun::verified);
  if (broken != runs.end()) {
    median.verified = false;
    median.failure = broken->failure;
  }
  for (const RowRun& run : runs) {
    if (median.refused.empty()) median.refused = run.refused;
  }
  return median;
}

}  // namespace vballoon::tool
