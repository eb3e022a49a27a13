// SPDX-License-Identifier: MIT
// What stderr is: a terminal, and one that may be coloured?
#ifndef VBALLOON_TOOLS_TERMINAL_H_
#define VBALLOON_TOOLS_TERMINAL_H_

#include "vballoon/log.h"

namespace vballoon::tool {

[[nodiscard]] bool stderr_is_terminal();

// Not with NO_COLOR set, nor where TERM says that nothing but text is understood.
[[nodiscard]] bool colour_wanted();

// Where the library's messages go: spdlog, on stderr, over the progress line if there is one.
// May be called from any thread.
[[nodiscard]] LogSink terminal_log();

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_TERMINAL_H_
