// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "compare_report.h"
#include "comparisons.h"

namespace vballoon::tool {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::made_up_comparison;
using ::testing::Not;
using ::testing::StartsWith;

TEST(ComparePlotTest, EveryRowIsABarOfItsFourStages) {
  EXPECT_THAT(gnuplot_script_of(bars_of(made_up_comparison()), "a.svg"),
              StartsWith("$rows << EOD\n"
                         "\"pfn/per-page\" 200 400 600 800\n"
                         "\"chunk/vectored\" 12.5 25 37.5 50\n"
                         "EOD\n"));
}

TEST(ComparePlotTest, BarsSayTheirTimeAndTheirFactor) {
  EXPECT_THAT(
      gnuplot_script_of(bars_of(made_up_comparison()), "a.svg"),
      AllOf(HasSubstr("'2000 ms (1.0x)' at 0,2000"), HasSubstr("'125 ms (16.0x)' at 1,125")));
}

TEST(ComparePlotTest, LimitIsALine) {
  EXPECT_THAT(gnuplot_script_of(bars_of(made_up_comparison()), "a.svg"),
              HasSubstr("100 with lines dashtype 2 linecolor rgb '#444444' title 'limit: 100 ms'"));
}

TEST(ComparePlotTest, EndingOfTheFileChoosesItsKind) {
  EXPECT_THAT(gnuplot_script_of(bars_of(made_up_comparison()), "a.svg"),
              HasSubstr("set terminal svg"));
  EXPECT_THAT(gnuplot_script_of(bars_of(made_up_comparison()), "a.png"),
              HasSubstr("set terminal pngcairo"));
}

TEST(ComparePlotTest, FileIsNotNamedInTheScript) {
  EXPECT_THAT(gnuplot_script_of(bars_of(made_up_comparison()), "'; system 'false' #.svg"),
              Not(HasSubstr("system")));
}

TEST(ComparePlotTest, OtherEndingIsRefused) {
  const auto drawable = check_plot("picture.gif");

  ASSERT_FALSE(drawable);
  EXPECT_EQ(drawable.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(drawable.error().context, "--plot picture.gif: the file must end in .svg or .png");
}

TEST(ComparePlotTest, FolderThatDoesNotExistIsRefused) {
  const auto drawable = check_plot("/nowhere/at/all.svg");

  ASSERT_FALSE(drawable);
  EXPECT_EQ(drawable.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(drawable.error().context,
            "--plot /nowhere/at/all.svg: cannot write it: No such file or directory");
}

TEST(ComparePlotTest, FileThatCannotBeWrittenIsRefused) {
  const auto drawable = check_plot("/proc/version/a.svg");

  ASSERT_FALSE(drawable);
  EXPECT_EQ(drawable.error().code, Errc::kInvalidArgument);
}

// Draws into a folder of its own.
class GnuplotTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!check_plot("a.svg")) GTEST_SKIP() << "needs gnuplot";
    fs::create_directories(folder_);
  }
  ~GnuplotTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  [[nodiscard]] std::string file(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] static std::string contents(const std::string& name) {
    std::ifstream stream(name, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

 private:
  const fs::path folder_ =
      fs::temp_directory_path() / ("vballoon-plot-" + std::to_string(::getpid()));
};

TEST_F(GnuplotTest, SvgIsDrawn) {
  ASSERT_TRUE(draw_plot(bars_of(made_up_comparison()), file("a.svg")));

  EXPECT_THAT(contents(file("a.svg")), AllOf(HasSubstr("<svg"), HasSubstr("chunk/vectored"),
                                             HasSubstr("limit: 100 ms"), HasSubstr("</svg>")));
}

TEST_F(GnuplotTest, PngIsDrawn) {
  ASSERT_TRUE(draw_plot(bars_of(made_up_comparison()), file("a.png")));

  EXPECT_THAT(contents(file("a.png")), StartsWith("\x89PNG"));
}

TEST_F(GnuplotTest, FileNameWithAnyCharacterIsDrawn) {
  const std::string name = file("|it's \"mine\"\n$HOME `true`.svg");

  ASSERT_TRUE(draw_plot(bars_of(made_up_comparison()), name));

  EXPECT_THAT(contents(name), HasSubstr("<svg"));
}

TEST_F(GnuplotTest, WhatCannotBeDrawnIsAnError) {
  EXPECT_FALSE(draw_plot(bars_of(made_up_comparison()), file("missing/a.svg")));
}

}  // namespace
}  // namespace vballoon::tool
