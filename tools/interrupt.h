// SPDX-License-Identifier: MIT
// Ctrl-C: long work asks between its steps and stops in order.
#ifndef VBALLOON_TOOLS_INTERRUPT_H_
#define VBALLOON_TOOLS_INTERRUPT_H_

namespace vballoon::tool {

// From now on a first SIGINT or SIGTERM only sets what interrupted() says; a second one ends the
// program at once.
void catch_interrupts();
[[nodiscard]] bool interrupted();

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_INTERRUPT_H_
