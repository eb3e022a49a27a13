// SPDX-License-Identifier: MIT
#include "guest/run_reporters.h"

#include <array>

#include "wire/chunk.h"
#include "wire/page_chunks.h"
#include "wire/range_list.h"

namespace vballoon::sim {
namespace {

// Moves the first runs of pages into a message, as many as it has room for.
template <typename Encoder>
void move_runs(NamedPages& pages, Encoder& encoder) {
  for (PageRange run = pages.first_run(); run.count != 0 && encoder.append(run);
       run = pages.first_run()) {
    pages.remove_first(run);
  }
}

}  // namespace

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
  const PageRange window = pages_.first_window(window_pages());
  if (window.count == 0) return 0;
  auto words = pages_.words_of(window);
  while (words.back() == 0) words = words.first(words.size() - 1);
  const std::size_t bytes = write_single_header_message(buffer(), window.first, words);
  pages_.remove_first(window);
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
