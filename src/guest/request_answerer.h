// SPDX-License-Identifier: MIT
// The driver's side of the request queue (wire/guest_request.h): keeps a buffer posted for what the
// host wants, and answers: which pages are free, order by order, or that caches were dropped.
//
// Never blocks: an answer that is out ends a step.
#ifndef VBALLOON_SRC_GUEST_REQUEST_ANSWERER_H_
#define VBALLOON_SRC_GUEST_REQUEST_ANSWERER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "guest/page_reporter.h"
#include "ring/driver_queue.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/page_allocator.h"
#include "wire/guest_request.h"

namespace vballoon::sim {

class RequestAnswerer {
 public:
  // Of the request and of the header of an answer.
  static constexpr std::size_t kBufferBytes = kRequestBytes + kAnswerHeaderBytes;
  // A queue needs as many entries.
  static constexpr std::size_t kDescriptors = 2;
  // Takes that many contiguous bytes for records, in place of those taken before; nullopt, with
  // those kept, when there is no memory.
  using TakeData = std::function<std::optional<DmaBuffer>(std::uint64_t bytes)>;

  // All must outlive this; the buffer has kBufferBytes.
  RequestAnswerer(DriverQueue& queue, DmaBuffer buffer, TakeData take_data,
                  PageAllocator& allocator, GuestKernel& kernel);

  // Posts the buffer for requests. True when the device wants a kick.
  [[nodiscard]] bool post();

  struct Progress {
    bool kick = false;   // the device wants one
    bool waits = false;  // for the device to read an answer
  };
  // Does all that can be done now.
  [[nodiscard]] Progress step();

  // The queue was reset: what the device has not read is said again, to another queue.
  void queue_was_reset();
  void use(DriverQueue& queue) { queue_ = &queue; }

 private:
  enum Token : std::uint64_t { kRequestToken, kAnswerToken };

  void take_used();
  void send_answer();
  void send(RequestCommand command, std::uint32_t data_bytes, bool last);
  [[nodiscard]] std::uint32_t write_records(unsigned order);
  [[nodiscard]] bool grow_for(std::uint64_t records);

  DriverQueue* queue_;
  const DmaBuffer request_;
  const DmaBuffer header_;
  const TakeData take_data_;
  DmaBuffer data_;
  PageAllocator& allocator_;
  GuestKernel& kernel_;

  bool posted_ = false;                // the buffer for requests is the device's
  std::optional<GuestRequest> asked_;  // and not answered to the end
  unsigned next_order_ = 0;            // how many orders, or answers, are to come
  bool answer_out_ = false;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_REQUEST_ANSWERER_H_
