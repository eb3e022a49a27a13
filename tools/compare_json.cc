// SPDX-License-Identifier: MIT
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "compare_report.h"
#include "machine_json.h"
#include "wire/dialect.h"

namespace vballoon::tool {
namespace {

using Json = nlohmann::ordered_json;

// Numbers that are whole are written as such, and null where a number does not apply.
Json number(double value) {
  if (std::isnan(value)) return nullptr;
  const auto whole = static_cast<std::int64_t>(value);
  if (static_cast<double>(whole) == value) return whole;
  return value;
}

Json phase_json(const Phase& phase) {
  Json json;
  for (const PhaseField& field : kHeadFields)
    json[std::string(field.name)] = number(phase.*field.value);
  Json stages;
  for (const PhaseField& field : kStageFields) {
    stages[std::string(field.name)] = number(phase.*field.value);
  }
  json["stages_ms"] = stages;
  for (const PhaseField& field : kTailFields) {
    json[std::string(field.name)] = number(phase.*field.value);
  }
  return json;
}

void put_run(Json& json, const RowRun& run) {
  json["pages"] = run.pages;
  json["free_blocks_by_order"] = run.free_blocks_by_order;
  json["allocations_by_order"] = run.allocations_by_order;
  json["inflate"] = phase_json(run.inflate);
  json["deflate"] = phase_json(run.deflate);
  json["vcpu_loss_percent"] = run.vcpu_loss_percent ? Json(*run.vcpu_loss_percent) : Json(nullptr);
  json["verified"] = run.verified;
  if (!run.failure.empty()) json["failure"] = run.failure;
}

Json row_json(const Row& row) {
  Json json;
  json["name"] = row_name(row.spec);
  json["mode"] = dialect_row(row.spec.mode).name;
  json["host"] = to_string(row.spec.host);
  put_run(json, median_of(row.runs));
  json["runs"] = Json::array();
  for (const RowRun& run : row.runs) put_run(json["runs"].emplace_back(Json::object()), run);
  return json;
}

Json options_json(const Comparison& comparison) {
  const CompareOptions& options = comparison.options;
  const sim::DriverOptions driver = driver_options(options);
  Json modes = Json::array();
  for (const Dialect mode : options.modes) modes.push_back(dialect_row(mode).name);
  return {{"guest_memory_bytes", comparison.plan.guest_memory},
          {"inflate_bytes", comparison.plan.inflate_pages << kPageShift},
          {"modes", modes},
          {"host", to_string(options.host)},
          {"guest", to_string(options.guest)},
          {"compaction", options.compaction},
          {"notify", to_string(options.notify)},
          {"backing", to_string(options.backing)},
          {"thp", to_string(options.thp)},
          {"busy_vcpu", options.busy_vcpu},
          {"queue_size", options.queue_size},
          {"pfn_order", to_string(*driver.pfn_order)},
          {"write_behind", options.write_behind},
          {"poll_us", options.poll_us},
          {"chunk_order", driver.chunk_order},
          {"faithful", driver.faithful},
          {"repeat", options.repeat},
          {"seed", options.seed}};
}

}  // namespace

std::string json_of(const Comparison& comparison) {
  Json json;
  json["schema"] = "vballoon.compare/1";
  json["machine"] = machine_json(comparison.machine);
  json["options"] = options_json(comparison);
  json["limit_ms"] = comparison.limit_ms;
  json["results"] = Json::array();
  for (const Row& row : comparison.rows) json["results"].push_back(row_json(row));
  return json.dump(2) + "\n";
}

}  // namespace vballoon::tool
