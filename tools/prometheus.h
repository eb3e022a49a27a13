// SPDX-License-Identifier: MIT
// What a device counts, in the text format of Prometheus.
#ifndef VBALLOON_TOOLS_PROMETHEUS_H_
#define VBALLOON_TOOLS_PROMETHEUS_H_

#include <string>

#include "vballoon/balloon_device.h"

namespace vballoon::tool {

[[nodiscard]] std::string prometheus_text(const BalloonDevice& device);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_PROMETHEUS_H_
