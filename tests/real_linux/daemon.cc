// SPDX-License-Identifier: MIT
#include "real_linux/daemon.h"

#include <signal.h>

#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "real_linux/soon.h"

namespace vballoon::testing {

Daemon::Daemon(const ScratchDirectory& directory, const std::vector<std::string>& options)
    : directory_(directory),
      socket_(directory.path("vhost")),
      control_socket_(directory.path("control")) {
  std::vector<std::string> command = {VBALLOON_COMMAND, "serve",     "--socket",
                                      socket_,          "--control", control_socket_};
  command.insert(command.end(), options.begin(), options.end());
  process_.emplace(command, directory.path("daemon"));
  const bool listens = soon([this] {
    try {
      control_.emplace(control_socket_);
    } catch (const std::exception&) {
      return !process_->running();
    }
    return std::filesystem::exists(socket_);
  });
  if (!listens || !control_) {
    throw std::runtime_error("the daemon does not start:\n" + process_->output());
  }
}

Daemon::~Daemon() {
  process_->signal(SIGTERM);
  const auto ended = process_->wait_for_end(kSoon);
  EXPECT_TRUE(ended == 0 || ended == -SIGKILL) << process_->output();
}

void Daemon::set_target(std::uint64_t bytes) {
  control().execute("vballoon-set-target", {{"balloon-bytes", bytes}});
}

std::uint64_t Daemon::actual_bytes() {
  return control().execute("vballoon-query").at("actual-balloon-bytes").get<std::uint64_t>();
}

std::uint64_t Daemon::guest_memory_bytes() {
  return control().execute("vballoon-query").at("ram-bytes").get<std::uint64_t>();
}

bool Daemon::has_guest() { return control().execute("vballoon-query").at("state") == "ready"; }

nlohmann::json Daemon::stats() { return control().execute("vballoon-stats").at("stats"); }

std::string Daemon::metrics() {
  return control().execute("vballoon-metrics").at("text").get<std::string>();
}

std::uint64_t Daemon::metric(const std::string& name) {
  std::istringstream lines(metrics());
  std::optional<std::uint64_t> sum;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name) && line.find_first_of(" {") == name.size()) {
      sum = sum.value_or(0) + std::stoull(line.substr(line.rfind(' ') + 1));
    }
  }
  if (!sum) throw std::runtime_error("no metric named " + name);
  return *sum;
}

std::string Daemon::ctl(const std::vector<std::string>& words) {
  std::vector<std::string> command = {VBALLOON_COMMAND, "ctl", "--control", control_socket_};
  command.insert(command.end(), words.begin(), words.end());
  Process process(command, directory_.path("ctl." + words.front()));
  EXPECT_EQ(process.wait_for_end(kSoon), 0) << process.output();
  return process.output();
}

}  // namespace vballoon::testing
