// SPDX-License-Identifier: MIT
// What `vballoon ctl` takes on the command line.
#ifndef VBALLOON_TOOLS_CTL_ARGUMENTS_H_
#define VBALLOON_TOOLS_CTL_ARGUMENTS_H_

#include <CLI/CLI.hpp>

#include "ctl_command.h"

namespace vballoon::tool {

// Adds the subcommand, which fills `options` when it is parsed.
CLI::App& add_ctl(CLI::App& app, CtlOptions& options);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_CTL_ARGUMENTS_H_
