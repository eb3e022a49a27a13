// SPDX-License-Identifier: MIT
#include "device/ledger.h"

#include <bit>

namespace vballoon {
namespace {

std::uint64_t ones(std::uint64_t mask) { return static_cast<std::uint64_t>(std::popcount(mask)); }

}  // namespace

void Ledger::inflate(std::uint64_t word, std::uint64_t mask, Booked& booked) {
  std::uint64_t& in_balloon = ballooned_.words()[word];
  const std::uint64_t pages = ones(mask);
  const std::uint64_t already = ones(in_balloon & mask);
  in_balloon |= mask;
  ballooned_pages_ += pages - already;
  booked.pages += pages;
  if (already == 0) return;  // owed pages are in the balloon: nothing to cancel
  booked.unchanged += already;
  std::uint64_t& owed = owed_.words()[word];
  booked.cancelled += ones(owed & mask);
  owed_pages_ -= ones(owed & mask);
  owed &= ~mask;
}

void Ledger::deflate(std::uint64_t word, std::uint64_t mask, Booked& booked) {
  std::uint64_t& in_balloon = ballooned_.words()[word];
  const std::uint64_t pages = ones(mask);
  const std::uint64_t leaving = ones(in_balloon & mask);
  in_balloon &= ~mask;
  ballooned_pages_ -= leaving;
  booked.pages += pages;
  booked.unchanged += pages - leaving;
  if (owed_pages_ == 0) return;
  std::uint64_t& owed = owed_.words()[word];
  booked.cancelled += ones(owed & mask);
  owed_pages_ -= ones(owed & mask);
  owed &= ~mask;
}

std::uint64_t Ledger::owe(PageRange pages) {
  const std::uint64_t added = owed_.add(pages);
  owed_pages_ += added;
  return added;
}

std::uint64_t Ledger::settle(PageRange pages) {
  const std::uint64_t removed = owed_.remove(pages);
  owed_pages_ -= removed;
  return removed;
}

void Ledger::clear() {
  ballooned_.clear();
  owed_.clear();
  ballooned_pages_ = 0;
  owed_pages_ = 0;
}

}  // namespace vballoon
