// SPDX-License-Identifier: MIT
#include "guest/run_reporters.h"

#include <algorithm>
#include <array>

#include "wire/chunk.h"
#include "wire/page_chunks.h"
#include "wire/range_list.h"
#include "wire/single_header.h"

namespace vballoon::sim {
namespace {

constexpr std::uint64_t kWordPages = 64;

// Moves the first runs of pages into a message, as many as it has room for.
template <typename Encoder>
void move_runs(NamedPages& pages, Encoder& encoder) {
  for (PageRange run = pages.first_run(); run.count != 0 && encoder.append(run);
       run = pages.first_run()) {
    pages.remove_first(run);
  }
}

}  // namespace

void NamedPages::add(PageRange pages) {
  set_.add(pages);
  lowest_ = std::min(lowest_, pages.first);
  highest_ = std::max(highest_, pages.end() - 1);
}

PageRange NamedPages::first_run() {
  if (lowest_ > highest_) return {};
  const PageRange run = set_.next_run(lowest_, highest_ + 1);
  lowest_ = run.first;
  if (run.count == 0) {
    lowest_ = UINT64_MAX;
    highest_ = 0;
  }
  return run;
}

void NamedPages::remove_first(PageRange pages) {
  set_.remove(pages);
  lowest_ = pages.end();
}

bool ChunkReporter::post(DriverQueue& queue, std::uint64_t token) {
  sent_.clear();
  first_token_ = token;
  for (PageRange run = pages_.first_run(); run.count != 0; run = pages_.first_run()) {
    const GuestBuffer chunk = first_chunk(run);
    if (!queue.add({}, std::array{chunk}, token + sent_.size())) return true;
    const PageRange named{run.first, chunk.length >> kPageShift};
    pages_.remove_first(named);
    sent_.push_back(named);
  }
  return !sent_.empty();
}

std::size_t SingleHeaderReporter::write_message() {
  const PageRange run = pages_.first_run();
  if (run.count == 0) {
    lowest_.reset();
    return 0;
  }
  const std::uint64_t room = (buffer().size() - kSingleHeaderBytes) / sizeof(std::uint64_t);
  const std::uint64_t first = run.first / kWordPages;
  if (!lowest_) lowest_ = first;
  const std::uint64_t window_end = *lowest_ + ((first - *lowest_) / room + 1) * room;
  std::uint64_t end = std::min(window_end, (pages_.end() + kWordPages - 1) / kWordPages);
  while (pages_.words()[end - 1] == 0) --end;
  const std::size_t bytes = write_single_header_message(buffer(), first * kWordPages,
                                                        pages_.words().subspan(first, end - first));
  const Pfn named = std::min(end * kWordPages, pages_.end());
  pages_.remove_first({run.first, named - run.first});
  return bytes;
}

std::size_t RangeListReporter::write_message() {
  RangeListEncoder encoder(buffer().subspan(kBitmapHeaderBytes));
  move_runs(pages_, encoder);
  if (encoder.bytes() == 0) return 0;
  write_bitmap_header(buffer().first<kBitmapHeaderBytes>(), BitmapCommand::kRecords,
                      static_cast<std::uint32_t>(encoder.bytes()));
  return kBitmapHeaderBytes + encoder.bytes();
}

std::size_t PageChunksReporter::write_message() {
  PageChunksEncoder encoder(buffer());
  move_runs(pages_, encoder);
  return encoder.finish();
}

}  // namespace vballoon::sim
