// SPDX-License-Identifier: MIT
#include "stacked_bars.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace vballoon::tool {
namespace {

// Colours that stay apart for the colour-blind (Okabe and Ito).
constexpr std::array<std::string_view, 5> kColours{"#56B4E9", "#E69F00", "#009E73", "#CC79A7",
                                                   "#D55E00"};

std::string terminal_for(const std::string& file) {
  if (file.ends_with(".svg")) return "svg size 900,480 font 'sans-serif,14' background 'white'";
  if (file.ends_with(".png")) return "pngcairo size 900,480 font 'sans,11' background 'white'";
  return {};
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

using File = std::unique_ptr<std::FILE, decltype([](std::FILE* file) { std::fclose(file); })>;

// Draws by the script in one descriptor into the other. Its name stays out of the script, in which
// parts of it could mean something.
bool run_gnuplot(int script, int picture) {
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, script, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, picture, STDOUT_FILENO);
  std::string name = "gnuplot";
  const std::array<char*, 2> arguments{name.data(), nullptr};
  pid_t pid = -1;
  const bool spawned =
      ::posix_spawnp(&pid, name.c_str(), &actions, nullptr, arguments.data(), environ) == 0;
  ::posix_spawn_file_actions_destroy(&actions);
  int status = -1;
  return spawned && ::waitpid(pid, &status, 0) == pid && status == 0;
}

}  // namespace

std::string gnuplot_script_of(const StackedBars& bars, const std::string& file) {
  std::string data;
  std::string labels;
  double highest = bars.line ? bars.line->height : 0;
  int x = 0;
  for (const StackedBars::Bar& bar : bars.bars) {
    data += fmt::format("\"{}\" {}\n", bar.name, fmt::join(bar.parts, " "));
    labels += fmt::format("set label {} at {},{} center offset 0,0.7 front boxed\n",
                          gnuplot_string(bar.label), x++, bar.height);
    highest = std::max(highest, bar.height);
  }
  std::string plots;
  for (std::size_t i = 0; i < bars.parts.size(); ++i) {
    plots +=
        fmt::format("{}$rows using {}:xtic(1) title {} linecolor rgb '{}'",
                    i == 0 ? "" : ", \\\n     ", i + 2, gnuplot_string(bars.parts[i]), kColours[i]);
  }
  if (bars.line) {
    plots += fmt::format(", \\\n     {} with lines dashtype 2 linecolor rgb '#444444' title {}",
                         bars.line->height, gnuplot_string(bars.line->title));
  }
  return fmt::format(
      "$rows << EOD\n{}EOD\n"
      "set terminal {}\nset title {} noenhanced\n"
      "set style data histograms\nset style histogram rowstacked\n"
      "set style fill solid 0.9 border -1\nset boxwidth 0.6\n"
      "set ylabel {}\nset yrange [0:{}]\nset grid y\n"
      "set xtics noenhanced\nset key outside below center horizontal\n"
      "set style textbox opaque noborder\nset xrange [-0.6:{}]\n{}"
      "plot {}\n",
      data, terminal_for(file), gnuplot_string(bars.title), gnuplot_string(bars.y_label),
      highest * 1.12, x - 0.4, labels, plots);
}

Result<void> check_plot(const std::string& file) {
  if (terminal_for(file).empty()) {
    return fail(Errc::kInvalidArgument,
                fmt::format("--plot {}: the file must end in .svg or .png", file));
  }
  const std::string folder = std::filesystem::path(file).parent_path().string();
  const std::string written =
      ::access(file.c_str(), F_OK) == 0 ? file : (folder.empty() ? "" : folder + "/") + ".";
  if (::access(written.c_str(), W_OK) != 0) {
    return fail(Errc::kInvalidArgument,
                fmt::format("--plot {}: cannot write it: {}", file, std::strerror(errno)));
  }
  if (std::system("gnuplot --version >/dev/null 2>&1") != 0) {
    return fail(Errc::kNotSupported, "--plot needs gnuplot; install the package gnuplot-nox");
  }
  return {};
}

Result<void> draw_plot(const StackedBars& bars, const std::string& file) {
  const std::string script = gnuplot_script_of(bars, file);
  const File input(std::tmpfile());
  if (!input || std::fputs(script.c_str(), input.get()) == EOF || std::fflush(input.get()) != 0) {
    return fail(Errc::kNotSupported, "temporary file for gnuplot", errno);
  }
  std::rewind(input.get());
  const File output(std::fopen(file.c_str(), "w"));
  if (!output) return fail(Errc::kNotSupported, fmt::format("--plot {}", file), errno);
  if (!run_gnuplot(::fileno(input.get()), ::fileno(output.get()))) {
    return fail(Errc::kNotSupported, fmt::format("gnuplot could not draw {}", file));
  }
  return {};
}

}  // namespace vballoon::tool
