// SPDX-License-Identifier: MIT
#include "unix_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "socket_folder.h"

namespace vballoon::tool {
namespace {

using ::testing::HasSubstr;
using testing::SocketFolder;

class ListenerTest : public ::testing::Test {
 protected:
  SocketFolder folder_;
  std::string path_ = folder_.path("control");
};

TEST_F(ListenerTest, OnlyTheOwnerMayConnectWhateverTheMask) {
  const mode_t mask = ::umask(0);
  const auto listener = Listener::at(path_);
  ::umask(mask);

  ASSERT_TRUE(listener);
  struct stat found {};
  ASSERT_EQ(::stat(path_.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600u);
}

TEST_F(ListenerTest, ClientConnects) {
  const auto listener = Listener::at(path_);

  EXPECT_TRUE(connect_to(path_));
}

TEST_F(ListenerTest, PathIsGoneInTheEnd) {
  { const auto listener = Listener::at(path_); }

  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ListenerTest, PathOfALiveServerIsRefused) {
  const auto live = Listener::at(path_);

  const auto second = Listener::at(path_);

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(second.error().context, HasSubstr("a server listens at"));
  EXPECT_TRUE(connect_to(path_));
}

TEST_F(ListenerTest, SocketThatADeadServerLeftBehindIsReplaced) {
  folder_.leave_dead_socket(path_);

  const auto listener = Listener::at(path_);

  ASSERT_TRUE(listener);
  EXPECT_TRUE(connect_to(path_));
}

TEST_F(ListenerTest, FileThatIsNoSocketIsLeftAlone) {
  std::ofstream(path_) << "precious";

  const auto listener = Listener::at(path_);

  ASSERT_FALSE(listener);
  EXPECT_THAT(listener.error().context, HasSubstr("is there already and is no socket"));
  EXPECT_EQ(std::filesystem::file_size(path_), 8u);
}

TEST_F(ListenerTest, SocketThatCameInItsPlaceIsLeftThere) {
  std::optional<Listener> second;
  {
    const auto first = Listener::at(path_);
    std::filesystem::remove(path_);
    second.emplace(std::move(*Listener::at(path_)));
  }

  EXPECT_TRUE(connect_to(path_));
}

TEST_F(ListenerTest, PathThatIsTooLongIsRefused) {
  const auto listener = Listener::at(std::string(200, 'x'));

  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code, Errc::kInvalidArgument);
}

TEST_F(ListenerTest, FolderThatIsNotThereIsSaid) {
  const auto listener = Listener::at(folder_.path("none/control"));

  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().os_error, ENOENT);
}

TEST_F(ListenerTest, ConnectingToNobodyFailsWithTheReason) {
  const auto socket = connect_to(path_);

  ASSERT_FALSE(socket);
  EXPECT_EQ(socket.error().os_error, ENOENT);
}

}  // namespace
}  // namespace vballoon::tool
