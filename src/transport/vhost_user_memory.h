// SPDX-License-Identifier: MIT
// Guest memory that a front end shares by files, and where each side sees it.
#ifndef VBALLOON_SRC_TRANSPORT_VHOST_USER_MEMORY_H_
#define VBALLOON_SRC_TRANSPORT_VHOST_USER_MEMORY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/unique_fd.h"
#include "transport/vhost_user_protocol.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"

namespace vballoon::vhost_user {

// The table of regions; a value: a new one is made, and takes the place of the old one when the
// device has taken it.
class MemoryTable {
 public:
  // Maps a region. Fails with kInvalidArgument when it is empty, not aligned to pages, overlaps
  // another in either address space, wraps around, or is not behind the file; or with kMapFailed.
  [[nodiscard]] Result<void> add(const RegionDescription& region, const UniqueFd& fd);
  // Fails with kInvalidArgument when there is none with these addresses and that size.
  [[nodiscard]] Result<void> remove(const RegionDescription& region);

  [[nodiscard]] std::size_t size() const { return slots_.size(); }
  // Keeps the mappings for as long as it lives.
  [[nodiscard]] Result<std::shared_ptr<const GuestMemory>> guest_memory() const;
  // Where an address of the front end lies in guest memory.
  [[nodiscard]] std::optional<std::uint64_t> guest_address(std::uint64_t user_address) const;

 private:
  struct Mapping;
  struct Slot {
    RegionDescription region;
    std::shared_ptr<const Mapping> mapping;  // later tables may have it too
  };
  std::vector<Slot> slots_;
};

}  // namespace vballoon::vhost_user

#endif  // VBALLOON_SRC_TRANSPORT_VHOST_USER_MEMORY_H_
