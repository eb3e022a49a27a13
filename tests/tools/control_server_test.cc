// SPDX-License-Identifier: MIT
// The control socket with real clients. The test is the loop: it calls dispatch() as long as the
// server's descriptor is readable.
#include "control_server.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controlled_device.h"
#include "socket_folder.h"

namespace vballoon::tool {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::SocketFolder;
using ::testing::StartsWith;
using vballoon::testing::Rig;
using namespace std::chrono_literals;

constexpr std::string_view kNegotiate = R"({"execute": "qmp_capabilities"})";
constexpr std::string_view kDone = "{\"return\": {}}\r\n";
constexpr std::string_view kQueryBalloon = R"({"execute": "query-balloon"})";
constexpr std::string_view kWaitForOnePage =
    R"({"execute": "vballoon-set-target", "arguments": {"balloon-bytes": 4096, "wait": true}})";

class Client {
 public:
  explicit Client(const std::string& path) : socket_(connect_to(path).value()) {}

  // As much as the socket takes.
  std::size_t send(std::string_view text) {
    const auto sent = ::send(socket_.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? 0 : static_cast<std::size_t>(sent);
  }
  void finish() { ::shutdown(socket_.get(), SHUT_WR); }
  void close() { socket_ = UniqueFd(); }
  // What has come.
  std::string read() {
    std::string all;
    std::array<char, 4096> piece;
    ssize_t got = 0;
    while ((got = ::recv(socket_.get(), piece.data(), piece.size(), MSG_DONTWAIT)) > 0) {
      all.append(piece.data(), static_cast<std::size_t>(got));
    }
    closed_ = got == 0;
    return all;
  }
  // The server had hung up when read() was called last.
  [[nodiscard]] bool closed() const { return closed_; }

 private:
  UniqueFd socket_;
  bool closed_ = false;
};

class ControlServerTest : public ::testing::Test {
 protected:
  ControlServerTest() {
    rig_.start();
    server_ = ControlServer::create(path_, rig_.device(), options()).value();
  }

  ControlOptions options() {
    return {.version = "1.2.3",
            .clock = [this] { return now_; },
            .quit = [this] { ++quits_; },
            .log = [this](LogLevel, std::string_view line) { log_.emplace_back(line); }};
  }
  bool readable() const {
    pollfd waiting{server_->fd(), POLLIN, 0};
    return ::poll(&waiting, 1, 0) == 1;
  }
  // Until nothing is left to do. Each call does something, so there is an end to it.
  void run() {
    for (int turns = 0; readable() && turns < 1000; ++turns) server_->dispatch();
    EXPECT_FALSE(readable());
  }
  std::string say(Client& client, std::string_view text) {
    client.send(text);
    run();
    return client.read();
  }
  Client connect_ready() {
    Client client(path_);
    say(client, kNegotiate);
    return client;
  }
  void say_actual(std::uint32_t pages) { rig_.write_config32(kActualOffset, pages); }

  std::chrono::nanoseconds now_ = 100s;
  std::unique_ptr<ControlServer> server_;
  Rig rig_{{.device = {.news =
                           [this] {
                             if (server_ != nullptr) server_->news();
                           },
                       .clock = [this] { return now_; }}}};
  SocketFolder folder_;
  std::string path_ = folder_.path("control");
  std::vector<std::string> log_;
  int quits_ = 0;
};

TEST_F(ControlServerTest, NothingIsToBeDoneAtFirst) { EXPECT_FALSE(readable()); }

TEST_F(ControlServerTest, ClientIsGreetedAndServed) {
  Client client(path_);

  EXPECT_THAT(say(client, ""), StartsWith("{\"QMP\":"));
  EXPECT_EQ(say(client, kNegotiate), kDone);
  EXPECT_EQ(say(client, kQueryBalloon), "{\"return\": {\"actual\":8388608}}\r\n");
}

TEST_F(ControlServerTest, RequestInPiecesIsOne) {
  Client client = connect_ready();

  EXPECT_EQ(say(client, kQueryBalloon.substr(0, 7)), "");
  EXPECT_EQ(say(client, kQueryBalloon.substr(7)), "{\"return\": {\"actual\":8388608}}\r\n");
}

TEST_F(ControlServerTest, RequestsThatArriveTogetherAreAnsweredOneByOne) {
  Client client(path_);

  EXPECT_THAT(say(client, fmt::format("{}{}{}", kNegotiate, kQueryBalloon, kQueryBalloon)),
              EndsWith(fmt::format("{}{}{}", kDone, "{\"return\": {\"actual\":8388608}}\r\n",
                                   "{\"return\": {\"actual\":8388608}}\r\n")));
}

TEST_F(ControlServerTest, RequestThatIsTooLongIsAnErrorAndTheNextLineIsServed) {
  Client client = connect_ready();
  const std::string request = fmt::format("[\"{:x<{}}\"]\n", "", 70 * 1024);

  client.send(std::string_view(request).substr(0, 35 * 1024));
  run();
  client.send(std::string_view(request).substr(35 * 1024));
  run();

  EXPECT_THAT(client.read(), HasSubstr("QMP input is longer than 65536 bytes"));
  EXPECT_EQ(say(client, kQueryBalloon), "{\"return\": {\"actual\":8388608}}\r\n");
}

TEST_F(ControlServerTest, NewsBecomeEvents) {
  Client client = connect_ready();

  say_actual(256);
  EXPECT_TRUE(readable());
  run();

  EXPECT_THAT(client.read(), StartsWith(R"({"event":"BALLOON_CHANGE","data":{"actual":7340032})"));
}

TEST_F(ControlServerTest, EventThatWasHeldBackIsSentWhenItsTimeHasCome) {
  Client client = connect_ready();
  say_actual(1);
  run();
  say_actual(2);
  run();
  client.read();

  now_ += 1s;
  server_->dispatch();

  EXPECT_THAT(client.read(), HasSubstr(R"("actual":8380416)"));
}

TEST_F(ControlServerTest, ClientWaitsAndIsToldWhenTheGuestHasGotThere) {
  Client client = connect_ready();
  EXPECT_EQ(say(client, kWaitForOnePage), "");
  EXPECT_EQ(say(client, kQueryBalloon), "");

  say_actual(1);
  run();

  EXPECT_THAT(client.read(), EndsWith("{\"return\": {\"actual-balloon-bytes\":4096}}\r\n"
                                      "{\"return\": {\"actual\":8384512}}\r\n"));
}

TEST_F(ControlServerTest, ClientThatGoesWhileItWaitsIsForgotten) {
  Client client = connect_ready();
  say(client, kWaitForOnePage);

  client.close();
  run();

  Client other = connect_ready();
  say_actual(1);
  run();
  EXPECT_THAT(other.read(), HasSubstr("VBALLOON_TARGET_REACHED"));
}

TEST_F(ControlServerTest, ClientThatHasSentAllIsStillAnswered) {
  Client client = connect_ready();
  client.send(kWaitForOnePage);
  client.finish();
  run();

  say_actual(1);
  run();

  EXPECT_THAT(client.read(), EndsWith("{\"return\": {\"actual-balloon-bytes\":4096}}\r\n"));
  EXPECT_TRUE(client.closed());
}

TEST_F(ControlServerTest, CommandsOfAClientThatHasGoneAreCarriedOut) {
  Client client(path_);
  client.send(
      fmt::format(R"({}{{"execute": "balloon", "arguments": {{"value": 4194304}}}})", kNegotiate));

  client.close();
  run();

  EXPECT_EQ(rig_.device().target_pages(), 1024u);
}

TEST_F(ControlServerTest, ClientsAreIndependent) {
  Client first = connect_ready();
  Client second(path_);
  run();
  second.read();

  EXPECT_THAT(say(second, kQueryBalloon), HasSubstr("CommandNotFound"));
  EXPECT_EQ(say(first, kQueryBalloon), "{\"return\": {\"actual\":8388608}}\r\n");
}

TEST_F(ControlServerTest, ClientTooManyIsToldSoAndOthersStay) {
  std::vector<Client> clients;
  for (std::size_t i = 0; i < ControlServer::kMaxClients; ++i) clients.push_back(connect_ready());

  Client refused(path_);
  run();

  EXPECT_THAT(refused.read(), HasSubstr("Too many clients are connected"));
  EXPECT_TRUE(refused.closed());
  EXPECT_EQ(say(clients[0], kQueryBalloon), "{\"return\": {\"actual\":8388608}}\r\n");
}

TEST_F(ControlServerTest, ClientThatGoesMakesRoomForAnother) {
  std::vector<Client> clients;
  for (std::size_t i = 0; i < ControlServer::kMaxClients; ++i) clients.push_back(connect_ready());

  clients.pop_back();
  run();

  Client next(path_);
  EXPECT_THAT(say(next, ""), StartsWith("{\"QMP\":"));
}

TEST_F(ControlServerTest, ClientThatOnlySendsIsNotReadForEver) {
  Client client = connect_ready();
  std::string lines;
  for (int i = 0; i < 100'000; ++i) lines += "1\n";

  std::size_t sent = 0;
  for (int i = 0; i < 1000; ++i) {
    sent += client.send(lines);
    server_->dispatch();
  }

  EXPECT_LT(sent, 4u * 1024 * 1024);
  Client other = connect_ready();
  EXPECT_EQ(say(other, kQueryBalloon), "{\"return\": {\"actual\":8388608}}\r\n");
}

TEST_F(ControlServerTest, ClientThatReadsNoEventsIsDropped) {
  Client client = connect_ready();
  Client other = connect_ready();

  for (std::uint32_t i = 1; i < 40'000; ++i) {
    say_actual(i % 2000);
    now_ += 1s;
    server_->dispatch();
    other.read();
  }
  run();

  while (!client.read().empty()) {
  }
  EXPECT_TRUE(client.closed());
  EXPECT_THAT(log_, ::testing::Contains(HasSubstr("a client that does not read was dropped")));
  EXPECT_EQ(say(other, kQueryBalloon).find("{\"return\""), 0u);
}

TEST_F(ControlServerTest, QuitIsAnsweredBeforeTheProgramIsAskedToEnd) {
  Client client = connect_ready();

  EXPECT_EQ(say(client, R"({"execute": "quit"})"), kDone);

  EXPECT_EQ(quits_, 1);
}

TEST_F(ControlServerTest, SocketIsGoneWithTheServer) {
  server_.reset();

  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ControlServerTest, SecondServerAtTheSamePathIsRefused) {
  const auto second = ControlServer::create(path_, rig_.device(), options());

  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().context, HasSubstr("a server listens at"));
}

TEST_F(ControlServerTest, SocketThatWasMadeElsewhereIsServedAndStays) {
  const std::string path = folder_.path("inherited");
  auto made = Listener::at(path).value();
  server_ = ControlServer::create(::dup(made.fd()), rig_.device(), options()).value();

  Client client(path);
  EXPECT_THAT(say(client, ""), StartsWith("{\"QMP\":"));
  server_.reset();

  EXPECT_TRUE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace vballoon::tool
