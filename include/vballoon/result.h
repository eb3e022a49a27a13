// SPDX-License-Identifier: MIT
// A value, or the reason why there is none.                                       room: base
#ifndef VBALLOON_RESULT_H_
#define VBALLOON_RESULT_H_

#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "vballoon/error.h"

namespace vballoon {

template <typename T>
using Result = tl::expected<T, Error>;

// Makes the failing half of a Result: `return fail(Errc::kInvalidArgument, "...");`
[[nodiscard]] inline tl::unexpected<Error> fail(Errc code, std::string context = {},
                                                int os_error = 0) {
  return tl::unexpected<Error>(Error{code, os_error, std::move(context)});
}

}  // namespace vballoon

#endif  // VBALLOON_RESULT_H_
