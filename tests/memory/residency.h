// SPDX-License-Identifier: MIT
// What the kernel says about memory: the truth that the tests of this room look at.
#ifndef VBALLOON_TESTS_MEMORY_RESIDENCY_H_
#define VBALLOON_TESTS_MEMORY_RESIDENCY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vballoon::testing {

// Bytes of [address, + length) that are in memory, in whole 4 KiB pages.
[[nodiscard]] std::uint64_t resident_bytes(const std::byte* address, std::size_t length);

// Bytes that a memory file holds.
[[nodiscard]] std::uint64_t file_bytes(int fd);

// A field of the mapping that holds the address, from /proc/self/smaps: "AnonHugePages".
[[nodiscard]] std::uint64_t smaps_bytes(const std::byte* address, std::string_view field);

// Pages in the kernel's pool of 2 MiB pages that are neither in use nor set aside.
[[nodiscard]] std::uint64_t free_huge_pages();

// The word in brackets of a file such as /sys/kernel/mm/transparent_hugepage/enabled, or "never"
// when there is no such file.
[[nodiscard]] std::string selected_word(const std::string& path);

// How many files this process has open.
[[nodiscard]] std::size_t open_file_count();

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_MEMORY_RESIDENCY_H_
