// SPDX-License-Identifier: MIT
#include "qmp_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace vballoon::tool {
namespace {

constexpr std::string_view kNegotiation = "qmp_capabilities";

}  // namespace

QmpSession::QmpSession(std::string_view version, std::span<const QmpCommand> commands)
    : commands_(commands), output_(greeting_line(version)) {}

bool QmpSession::step() {
  if (waiting() || paused()) return false;
  auto message = framer_.next();
  if (!message) return false;
  if (!*message) {
    answer(refuse(kGenericError, std::string(message->error())), {});
    return true;
  }
  const ReadRequest read = read_request(**message);
  if (!read.request) {
    answer(tl::unexpected(read.request.error()), read.id);
  } else {
    execute(*read.request, read.id);
  }
  return true;
}

void QmpSession::send_event(std::string_view line) {
  if (negotiated_) output_ += line;
}

void QmpSession::execute(const QmpRequest& request, const std::string& id) {
  if (request.command == kNegotiation) return answer(negotiate(request.arguments), id);
  if (!negotiated_) {
    return answer(refuse(kCommandNotFound,
                         fmt::format("Expecting capabilities negotiation with '{}'", kNegotiation)),
                  id);
  }
  const auto command = std::ranges::find(commands_, request.command, &QmpCommand::name);
  if (command == commands_.end()) {
    return answer(
        refuse(kCommandNotFound, fmt::format("The command {} has not been found", request.command)),
        id);
  }
  if (auto bad = check_arguments(command->parameters, request.arguments)) {
    return answer(tl::unexpected(std::move(*bad)), id);
  }
  const AnswerLater later = answer_later(id);
  if (const auto now = command->run(request.arguments, later)) {
    later_.reset();
    answer(*now, id);
  }
}

// The documentation of QEMU enables "oob" in its example, so that is taken although it is not on
// offer; no command here could be run out of band anyway, nor can there in most cases.
Answer QmpSession::negotiate(const Arguments& arguments) {
  if (negotiated_) {
    return refuse(kCommandNotFound, "Capabilities negotiation is already complete");
  }
  if (auto bad = check_arguments({{"enable", ParameterType::kStrings, false}}, arguments)) {
    return tl::unexpected(std::move(*bad));
  }
  for (const auto& capability : arguments.value("enable", std::vector<std::string>())) {
    if (capability == "oob") continue;
    return refuse(kGenericError, fmt::format("Capability '{}' is not available", capability));
  }
  negotiated_ = true;
  return Json::object();
}

AnswerLater QmpSession::answer_later(const std::string& id) {
  later_ = std::make_shared<Later>(Later{*this, id});
  return [weak = std::weak_ptr(later_)](const Answer& answer) {
    const auto later = weak.lock();
    if (later == nullptr) return;
    later->session.later_.reset();
    later->session.answer(answer, later->id);
  };
}

}  // namespace vballoon::tool
