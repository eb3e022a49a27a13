// SPDX-License-Identifier: MIT
#include "prometheus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <set>
#include <sstream>
#include <string>

#include "controlled_device.h"

namespace vballoon::tool {
namespace {

using ::testing::AllOf;
using testing::ControlledDevice;
using ::testing::HasSubstr;
using ::testing::Not;

class PrometheusTest : public ::testing::Test {
 protected:
  PrometheusTest() { controlled_.rig().start(); }

  ControlledDevice controlled_;
};

TEST_F(PrometheusTest, SizesAreGauges) {
  ASSERT_TRUE(controlled_.device().set_target_pages(512));
  controlled_.rig().inflate({1, 2, 3});
  controlled_.say_actual(256);

  EXPECT_THAT(
      prometheus_text(controlled_.device()),
      AllOf(HasSubstr("\nvballoon_driver_running 1\n"), HasSubstr("\nvballoon_ram_bytes 8388608\n"),
            HasSubstr("\nvballoon_target_balloon_bytes 2097152\n"),
            HasSubstr("\nvballoon_actual_balloon_bytes 1048576\n"),
            HasSubstr("\nvballoon_ballooned_bytes 12288\n")));
}

TEST_F(PrometheusTest, WorkIsCounted) {
  controlled_.rig().inflate({1, 2, 3});
  controlled_.rig().deflate({1});

  EXPECT_THAT(prometheus_text(controlled_.device()),
              AllOf(HasSubstr("# TYPE vballoon_inflated_bytes_total counter\n"
                              "vballoon_inflated_bytes_total 12288\n"),
                    HasSubstr("\nvballoon_freed_bytes_total 12288\n"),
                    HasSubstr("\nvballoon_deflated_bytes_total 4096\n"),
                    HasSubstr("\nvballoon_messages_total{queue=\"inflate\"} 1\n"),
                    HasSubstr("\nvballoon_messages_total{queue=\"deflate\"} 1\n"),
                    HasSubstr("\nvballoon_stage_seconds_total{stage=\"discard\"} 0\n")));
}

TEST_F(PrometheusTest, ErrorsHaveTheReasonAsALabel) {
  controlled_.rig().inflate({0xFFFF});

  EXPECT_THAT(
      prometheus_text(controlled_.device()),
      AllOf(HasSubstr("\nvballoon_guest_errors_total{reason=\"page-outside-guest-memory\"} 1\n"),
            HasSubstr("\nvballoon_guest_errors_total{reason=\"descriptor-loop\"} 0\n")));
}

TEST_F(PrometheusTest, StatisticsOfTheGuestAreThereOnceTheyCame) {
  EXPECT_THAT(prometheus_text(controlled_.device()), Not(HasSubstr("vballoon_guest_free")));

  controlled_.send_stats({{4, 4096}, {2, 7}});
  controlled_.now += std::chrono::milliseconds(1500);

  EXPECT_THAT(prometheus_text(controlled_.device()),
              AllOf(HasSubstr("\nvballoon_guest_stats_age_seconds 1.5\n"),
                    HasSubstr("# TYPE vballoon_guest_free_memory_bytes gauge\n"
                              "vballoon_guest_free_memory_bytes 4096\n"),
                    HasSubstr("# TYPE vballoon_guest_major_faults_total counter\n"
                              "vballoon_guest_major_faults_total 7\n"),
                    Not(HasSubstr("vballoon_guest_total_memory"))));
}

// What a line is about: "HELP name" and "TYPE name", or a sample's name with its labels.
struct PrometheusLine {
  explicit PrometheusLine(const std::string& line) {
    std::istringstream words(line);
    words >> series;
    comment = series == "#";
    if (comment) words >> series >> name;
    if (comment) series += " " + name;
    if (!comment) name = series.substr(0, series.find('{'));
    rest = words >> value && (comment || words.eof());
  }

  bool comment = false;
  std::string series;
  std::string name;
  std::string value;
  bool rest = false;  // as it should be
};

// Each name is described once, in front of its samples, and each sample comes once.
TEST_F(PrometheusTest, TextKeepsTheRulesOfTheFormat) {
  controlled_.send_stats({{0, 1}, {4, 2}, {12, 3}});
  std::set<std::string> seen;
  std::string described;
  std::string wrong;

  std::istringstream lines(prometheus_text(controlled_.device()));
  for (std::string text; std::getline(lines, text);) {
    const PrometheusLine line(text);
    if (line.comment) described = line.name;
    const bool number = line.comment || !std::isnan(std::strtod(line.value.c_str(), nullptr));
    const bool first = seen.insert(line.series).second;
    if (!line.rest || !number || !first || line.name != described) wrong += text + "\n";
  }

  EXPECT_EQ(wrong, "");
  EXPECT_GT(seen.size(), 80u);
}

}  // namespace
}  // namespace vballoon::tool
