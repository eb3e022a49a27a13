// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "compare_report.h"
#include "sizes.h"

namespace vballoon::tool {
namespace {

// Colours that stay apart for the colour-blind (Okabe and Ito).
constexpr std::array<std::string_view, 4> kColours{"#56B4E9", "#E69F00", "#009E73", "#CC79A7"};

std::string terminal_for(const std::string& file) {
  if (file.ends_with(".svg")) return "svg size 900,480 font 'sans-serif,14' background 'white'";
  if (file.ends_with(".png")) return "pngcairo size 900,480 font 'sans,11' background 'white'";
  return {};
}

// Gnuplot would take "|" and "~" in front of a relative name for something else.
std::filesystem::path absolute(const std::string& file) {
  std::error_code ignored;  // there is no current directory: then nothing can be drawn
  return std::filesystem::absolute(file, ignored);
}

// Inside a gnuplot string in single quotes.
std::string gnuplot_string(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') out += '\'';
    out += c;
  }
  return out + "'";
}

std::string title_of(const Comparison& comparison) {
  return fmt::format("Inflating {} of a guest of {} ({}, {})",
                     format_size(static_cast<double>(comparison.plan.inflate_pages << kPageShift)),
                     format_size(static_cast<double>(comparison.plan.guest_memory)),
                     to_string(comparison.options.guest), to_string(comparison.options.backing));
}

}  // namespace

std::string gnuplot_script_of(const Comparison& comparison, const std::string& file) {
  std::string data;
  std::string labels;
  const double baseline_ms = median_of(comparison.rows.front().runs).inflate.wall_ms;
  double longest_ms = comparison.limit_ms;
  int x = 0;
  for (const Row& row : comparison.rows) {
    const Phase phase = median_of(row.runs).inflate;
    data += fmt::format("\"{}\" {} {} {} {}\n", row_name(row.spec), phase.allocate_ms,
                        phase.send_ms, phase.translate_ms, phase.discard_ms);
    labels +=
        fmt::format("set label '{} ms ({:.1f}x)' at {},{} center offset 0,0.7\n",
                    format_number(phase.wall_ms), baseline_ms / phase.wall_ms, x++, phase.wall_ms);
    longest_ms = std::max(longest_ms, phase.wall_ms);
  }
  std::string plots;
  constexpr std::array<std::string_view, 4> kStages{"allocate", "send", "translate", "discard"};
  for (std::size_t i = 0; i < kStages.size(); ++i) {
    plots += fmt::format("$rows using {}:xtic(1) title '{}' linecolor rgb '{}', \\\n     ", i + 2,
                         kStages[i], kColours[i]);
  }
  return fmt::format(
      "$rows << EOD\n{}EOD\n"
      "set terminal {}\nset output {}\nset title {} noenhanced\n"
      "set style data histograms\nset style histogram rowstacked\n"
      "set style fill solid 0.9 border -1\nset boxwidth 0.6\n"
      "set ylabel 'milliseconds'\nset yrange [0:{}]\nset grid y\n"
      "set xtics noenhanced\nset key top right\n{}"
      "plot {}{} with lines dashtype 2 linecolor rgb '#444444' title 'limit: {} ms'\n",
      data, terminal_for(file), gnuplot_string(absolute(file).string()),
      gnuplot_string(title_of(comparison)), longest_ms * 1.12, labels, plots, comparison.limit_ms,
      format_number(comparison.limit_ms));
}

Result<void> check_plot(const std::string& file) {
  if (terminal_for(file).empty()) {
    return fail(Errc::kInvalidArgument,
                fmt::format("--plot {}: the file must end in .svg or .png", file));
  }
  if (std::ranges::any_of(file, [](unsigned char c) { return std::iscntrl(c) != 0; })) {
    return fail(Errc::kInvalidArgument, "--plot: a control character in the name of the file");
  }
  const std::string folder = absolute(file).parent_path().string();
  if (::access(folder.c_str(), W_OK) != 0) {
    return fail(Errc::kInvalidArgument, fmt::format("--plot {}: cannot write to {}: {}", file,
                                                    folder, std::strerror(errno)));
  }
  if (std::system("gnuplot --version >/dev/null 2>&1") != 0) {
    return fail(Errc::kNotSupported, "--plot needs gnuplot; install the package gnuplot-nox");
  }
  return {};
}

Result<void> draw_plot(const Comparison& comparison, const std::string& file) {
  FILE* gnuplot = ::popen("gnuplot", "w");
  if (gnuplot == nullptr) return fail(Errc::kNotSupported, "cannot run gnuplot", errno);
  fmt::print(gnuplot, "{}", gnuplot_script_of(comparison, file));
  if (::pclose(gnuplot) != 0) {
    return fail(Errc::kNotSupported, fmt::format("gnuplot could not draw {}", file));
  }
  return {};
}

}  // namespace vballoon::tool
