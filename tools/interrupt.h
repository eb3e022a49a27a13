// SPDX-License-Identifier: MIT
// Ctrl-C: long work asks between its steps and stops in order.
#ifndef VBALLOON_TOOLS_INTERRUPT_H_
#define VBALLOON_TOOLS_INTERRUPT_H_

namespace vballoon::tool {

// From now on SIGINT and SIGTERM only set what interrupted() says.
void catch_interrupts();
[[nodiscard]] bool interrupted();

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_INTERRUPT_H_
