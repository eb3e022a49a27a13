// SPDX-License-Identifier: MIT
#include "device/ledger.h"

#include <bit>
#include <cstddef>
#include <utility>

namespace vballoon {
namespace {

constexpr std::uint64_t kAll = ~std::uint64_t{0};

// Whole words are what large ranges are made of, and a popcount is a call where the processor's
// own instruction cannot be taken for granted.
std::uint64_t ones(std::uint64_t mask) {
  if (mask == kAll) return 64;
  return mask == 0 ? 0 : static_cast<std::uint64_t>(std::popcount(mask));
}

}  // namespace

void Ledger::inflate(std::uint64_t word, std::uint64_t mask, Booked& booked) {
  std::uint64_t& in_balloon = ballooned_.words()[word];
  const std::uint64_t pages = ones(mask);
  const std::uint64_t already = ones(in_balloon & mask);
  in_balloon |= mask;
  ballooned_pages_ += pages - already;
  booked.pages += pages;
  booked.unchanged += already;
  if (already != 0) cancel_owed(word, mask, booked);  // what is owed is in the balloon
}

void Ledger::deflate(std::uint64_t word, std::uint64_t mask, Booked& booked) {
  std::uint64_t& in_balloon = ballooned_.words()[word];
  const std::uint64_t pages = ones(mask);
  const std::uint64_t leaving = (in_balloon & mask) == mask ? pages : ones(in_balloon & mask);
  in_balloon &= ~mask;
  ballooned_pages_ -= leaving;
  booked.pages += pages;
  booked.unchanged += pages - leaving;
  if (owed_pages_ != 0) cancel_owed(word, mask, booked);
}

// Nearly all words of a large range are as they should be: none of the pages in the balloon, or
// all.
void Ledger::inflate_whole(std::uint64_t word, std::uint64_t words, Booked& booked) {
  std::uint64_t simple = 0;
  for (std::uint64_t w = word; w < word + words; ++w) {
    std::uint64_t& in_balloon = ballooned_.words()[w];
    if (in_balloon != 0) {
      inflate(w, kAll, booked);
      continue;
    }
    in_balloon = kAll;
    ++simple;
  }
  ballooned_pages_ += simple * 64;
  booked.pages += simple * 64;
}

void Ledger::deflate_whole(std::uint64_t word, std::uint64_t words, Booked& booked) {
  const bool nothing_owed = owed_pages_ == 0;
  std::uint64_t simple = 0;
  for (std::uint64_t w = word; w < word + words; ++w) {
    std::uint64_t& in_balloon = ballooned_.words()[w];
    if (in_balloon != kAll || !nothing_owed) {
      deflate(w, kAll, booked);
      continue;
    }
    in_balloon = 0;
    ++simple;
  }
  ballooned_pages_ -= simple * 64;
  booked.pages += simple * 64;
}

void Ledger::cancel_owed(std::uint64_t word, std::uint64_t mask, Booked& booked) {
  std::uint64_t& owed = owed_.words()[word];
  const std::uint64_t cancelled = ones(owed & mask);
  owed &= ~mask;
  owed_pages_ -= cancelled;
  booked.cancelled += cancelled;
}

std::uint64_t Ledger::owe(PageRange pages) {
  const std::uint64_t added = owed_.add(pages);
  owed_pages_ += added;
  return added;
}

std::uint64_t Ledger::owe(std::uint64_t word, std::uint64_t mask) {
  std::uint64_t& owed = owed_.words()[word];
  const std::uint64_t added = ones(mask & ~owed);
  owed |= mask;
  owed_pages_ += added;
  return added;
}

std::uint64_t Ledger::settle(PageRange pages) {
  const std::uint64_t removed = owed_.remove(pages);
  owed_pages_ -= removed;
  return removed;
}

bool Ledger::restore(PageSet ballooned, PageSet owed) {
  const auto reaches_beyond = [size = ballooned_.size()](const PageSet& pages) {
    return pages.size() != size || (size % 64 != 0 && pages.words().back() >> size % 64 != 0);
  };
  if (reaches_beyond(ballooned) || reaches_beyond(owed)) return false;
  for (std::size_t word = 0; word < owed.words().size(); ++word) {
    if ((owed.words()[word] & ~ballooned.words()[word]) != 0) return false;
  }
  ballooned_ = std::move(ballooned);
  owed_ = std::move(owed);
  ballooned_pages_ = ballooned_.count();
  owed_pages_ = owed_.count();
  return true;
}

void Ledger::copy(const Ledger& from, std::uint64_t from_first, PageRange pages) {
  const std::uint64_t limit = from_first + pages.count;
  const auto copy_set = [&](const PageSet& source, PageSet& target) {
    std::uint64_t copied = 0;
    PageRange run = source.next_run(from_first, limit);
    for (; run.count != 0; run = source.next_run(run.end(), limit)) {
      copied += target.add({pages.first + (run.first - from_first), run.count});
    }
    return copied;
  };
  ballooned_pages_ += copy_set(from.ballooned_, ballooned_);
  owed_pages_ += copy_set(from.owed_, owed_);
}

void Ledger::clear() {
  ballooned_.clear();
  owed_.clear();
  ballooned_pages_ = 0;
  owed_pages_ = 0;
}

}  // namespace vballoon
