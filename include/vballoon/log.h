// SPDX-License-Identifier: MIT
// Where the library's few messages go.                                            room: base
//
// The library never prints. An embedder that wants messages gives a sink; it is called from the
// thread that ran into the matter, with a lock held, so it should be quick and must not call back
// into the library.
#ifndef VBALLOON_LOG_H_
#define VBALLOON_LOG_H_

#include <cstdint>
#include <functional>
#include <string_view>

namespace vballoon {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

using LogSink = std::function<void(LogLevel, std::string_view)>;

}  // namespace vballoon

#endif  // VBALLOON_LOG_H_
