// SPDX-License-Identifier: MIT
#include "guest/page_reporter.h"

#include <array>
#include <cassert>
#include <utility>

namespace vballoon::sim {

// A queue that is empty has room for a message: one descriptor, two with a header, and a format
// that has one is not spoken over a ring of one.
bool MessageReporter::post(DriverQueue& queue, std::uint64_t token) {
  if (!std::exchange(again_, false)) sent_bytes_ = write_message();
  if (sent_bytes_ == 0) return false;
  const std::array descriptors{
      GuestBuffer{buffer_.address, header_bytes_},
      GuestBuffer{buffer_.address + header_bytes_,
                  static_cast<std::uint32_t>(sent_bytes_ - header_bytes_)}};
  const auto readable = std::span(descriptors).subspan(header_bytes_ == 0 ? 1 : 0);
  [[maybe_unused]] const bool added = queue.add(readable, {}, token);
  assert(added);
  return true;
}

// The buffer is the driver's again by now: an operation begins when the last message is answered.
void PfnReporter::add(PageRange pages) {
  for (Pfn page = pages.first; page < pages.end(); ++page) {
    [[maybe_unused]] const bool fits = encoder_.append(page);
    assert(fits);
    if (!wide_) continue;
    [[maybe_unused]] const bool fits_whole = encoder_.append(0);
    assert(fits_whole);
  }
}

std::size_t PfnReporter::write_message() {
  const std::size_t bytes = encoder_.bytes();
  encoder_.clear();
  return bytes;
}

void ContReporter::add(PageRange pages) {
  [[maybe_unused]] const bool fits = encoder_.append(pages);
  assert(fits);
}

std::size_t ContReporter::write_message() {
  const std::size_t bytes = encoder_.bytes();
  encoder_.clear();
  return bytes;
}

}  // namespace vballoon::sim
