// SPDX-License-Identifier: MIT
// What any QMP server does, with commands that do nothing.
#include "qmp_session.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vballoon::tool {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::string_view kGreeting =
    R"({"QMP":{"version":{"qemu":{"major":1,"minor":2,"micro":3},"package":"vballoon 1.2.3"},)"
    R"("capabilities":[]}})"
    "\r\n";
constexpr std::string_view kDone = "{\"return\": {}}\r\n";

std::string error(std::string_view error_class, std::string_view desc) {
  return fmt::format("{{\"error\": {{\"class\":\"{}\",\"desc\":\"{}\"}}}}\r\n", error_class, desc);
}
std::string generic_error(std::string_view desc) { return error("GenericError", desc); }

class QmpSessionTest : public ::testing::Test {
 protected:
  // What comes of it.
  std::string say(std::string_view text) {
    session_.receive(text);
    while (session_.step()) {
    }
    return std::exchange(session_.output(), {});
  }
  void negotiate() { say(R"({"execute": "qmp_capabilities"})"); }

  std::vector<AnswerLater> later_;
  std::vector<int> numbers_;  // those of "number" that were run
  std::vector<QmpCommand> commands_{
      {"nothing", {}, [](const auto&, const auto&) { return Answer(Json::object()); }},
      {"number",
       {{"number", ParameterType::kInteger}, {"why", ParameterType::kString, false}},
       [this](const Arguments& arguments, const auto&) {
         numbers_.push_back(arguments.at("number").get<int>());
         return Answer(Json(numbers_.back()));
       }},
      {"later", {}, [this](const auto&, const AnswerLater& later) {
         later_.push_back(later);
         return std::nullopt;
       }}};
  QmpSession session_{"1.2.3", commands_};
};

TEST_F(QmpSessionTest, GreetingComesBeforeAnything) { EXPECT_EQ(say(""), kGreeting); }

TEST_F(QmpSessionTest, NothingIsRunBeforeCapabilitiesAreNegotiated) {
  say("");

  EXPECT_EQ(say(R"({"execute": "nothing", "id": 1})"),
            R"({"error": {"class":"CommandNotFound","desc":"Expecting capabilities negotiation )"
            R"(with 'qmp_capabilities'"}, "id": 1})"
            "\r\n");
}

TEST_F(QmpSessionTest, NoEventsBeforeCapabilitiesAreNegotiated) {
  say("");

  session_.send_event("event");
  EXPECT_EQ(say(""), "");
  negotiate();
  session_.send_event("event");

  EXPECT_EQ(say(""), "event");
}

TEST_F(QmpSessionTest, CapabilitiesAreNegotiatedOnce) {
  say("");

  EXPECT_EQ(say(R"({"execute": "qmp_capabilities"})"), kDone);
  EXPECT_EQ(say(R"({"execute": "qmp_capabilities"})"),
            error("CommandNotFound", "Capabilities negotiation is already complete"));
}

TEST_F(QmpSessionTest, RequestOfQemusDocumentationThatEnablesOobIsTaken) {
  say("");

  EXPECT_EQ(say(R"({ "execute": "qmp_capabilities", "arguments": { "enable": ["oob"] } })"), kDone);
}

TEST_F(QmpSessionTest, UnknownCapabilityIsRefusedAndNothingNegotiated) {
  say("");

  EXPECT_EQ(say(R"({"execute": "qmp_capabilities", "arguments": {"enable": ["magic"]}})"),
            generic_error("Capability 'magic' is not available"));
  EXPECT_THAT(say(R"({"execute": "nothing"})"), HasSubstr("CommandNotFound"));
}

TEST_F(QmpSessionTest, UnknownCommandIsNotFound) {
  negotiate();

  EXPECT_EQ(say(R"({"execute": "device_del"})"),
            error("CommandNotFound", "The command device_del has not been found"));
}

TEST_F(QmpSessionTest, AnyIdComesBack) {
  negotiate();

  EXPECT_EQ(say(R"({"execute": "nothing", "id": {"b": [1.5, null], "a": "\u00e9"}})"),
            "{\"return\": {}, \"id\": {\"a\":\"\\u00e9\",\"b\":[1.5,null]}}\r\n");
}

TEST_F(QmpSessionTest, IdComesBackWithAnError) {
  negotiate();

  EXPECT_THAT(say(R"({"execute": "number", "id": "x"})"), EndsWith("}, \"id\": \"x\"}\r\n"));
}

TEST_F(QmpSessionTest, IdComesBackWhenTheRestIsNoRequest) {
  EXPECT_THAT(say(R"({"exec-oob": "nothing", "id": 7})"), EndsWith("}, \"id\": 7}\r\n"));
}

TEST_F(QmpSessionTest, AnswersAreAscii) {
  negotiate();

  EXPECT_EQ(say("{\"execute\": \"n\xC3\xA4h\\u0000\"}"),
            error("CommandNotFound", R"(The command n\u00e4h\u0000 has not been found)"));
}

TEST_F(QmpSessionTest, CommandsAreAnsweredInOrder) {
  negotiate();

  EXPECT_EQ(say(R"({"execute": "number", "arguments": {"number": 1}}
                   {"execute": "number", "arguments": {"number": 2}})"),
            "{\"return\": 1}\r\n{\"return\": 2}\r\n");
}

TEST_F(QmpSessionTest, CommandsBehindOneThatIsNotAnsweredWait) {
  negotiate();

  EXPECT_EQ(say(R"({"execute": "later", "id": 1} {"execute": "nothing", "id": 2})"), "");
  EXPECT_TRUE(session_.waiting());
  later_[0](Json("done"));

  EXPECT_EQ(say(""), "{\"return\": \"done\", \"id\": 1}\r\n{\"return\": {}, \"id\": 2}\r\n");
}

TEST_F(QmpSessionTest, AnswerIsGivenOnce) {
  negotiate();
  say(R"({"execute": "later"})");

  later_[0](Json(1));
  later_[0](Json(2));

  EXPECT_EQ(say(""), "{\"return\": 1}\r\n");
}

TEST_F(QmpSessionTest, AnswerToAClientThatHasGoneIsDropped) {
  {
    QmpSession client("1.2.3", commands_);
    client.receive(R"({"execute": "qmp_capabilities"}{"execute": "later"})");
    ASSERT_TRUE(client.step());
    ASSERT_TRUE(client.step());
  }

  later_[0](Json(1));

  EXPECT_EQ(say(""), kGreeting);
}

TEST_F(QmpSessionTest, MissingArgumentIsAnError) {
  negotiate();

  EXPECT_EQ(say(R"({"execute": "number"})"), generic_error("Parameter 'number' is missing"));
}

TEST_F(QmpSessionTest, UnknownArgumentIsAnErrorBeforeAnyEffect) {
  negotiate();

  EXPECT_EQ(say(R"({"execute": "number", "arguments": {"number": 1, "colour": "red"}})"),
            generic_error("Parameter 'colour' is unexpected"));
  EXPECT_TRUE(numbers_.empty());
}

TEST_F(QmpSessionTest, ArgumentOfAnotherTypeIsAnErrorBeforeAnyEffect) {
  negotiate();

  EXPECT_EQ(say(R"({"execute": "number", "arguments": {"number": 1, "why": true}})"),
            generic_error("Invalid parameter type for 'why', expected: string"));
  EXPECT_TRUE(numbers_.empty());
}

TEST_F(QmpSessionTest, ClientThatDoesNotReadGetsNoMoreAnswers) {
  negotiate();
  std::string requests;
  for (int i = 0; i < 10'000; ++i) requests += R"({"execute":"nothing"})";

  session_.receive(requests);
  while (session_.step()) {
  }

  EXPECT_LT(session_.output().size(), QmpSession::kPauseBytes + 1000);
  EXPECT_FALSE(session_.wants_input());
  session_.output().clear();
  EXPECT_TRUE(session_.step());
}

TEST_F(QmpSessionTest, ClientThatLetsEventsPileUpHasOverflowed) {
  negotiate();
  const std::string event(QmpSession::kMaxOutputBytes / 2, 'x');

  session_.send_event(event);
  session_.send_event(event);
  EXPECT_FALSE(session_.overflowed());
  session_.send_event("x");

  EXPECT_TRUE(session_.overflowed());
}

struct BadInput {
  const char* name;
  std::string text;
  std::string desc;
};

class QmpBadInputTest : public QmpSessionTest, public ::testing::WithParamInterface<BadInput> {};

TEST_P(QmpBadInputTest, IsAGenericErrorAndTheNextRequestIsRead) {
  negotiate();

  EXPECT_EQ(say(GetParam().text + "\n{\"execute\": \"nothing\"}"),
            generic_error(GetParam().desc) + std::string(kDone));
}

INSTANTIATE_TEST_SUITE_P(
    All, QmpBadInputTest,
    ::testing::Values(
        BadInput{"DocumentedParseError", R"({ "execute": })", "JSON parse error at byte 14"},
        BadInput{"NoObject", "[]", "QMP input must be a JSON object"},
        BadInput{"Number", "12", "QMP input must be a JSON object"},
        BadInput{"Word", "help", "JSON parse error at byte 1"},
        BadInput{"NoCommand", "{}", "QMP input lacks member 'execute'"},
        BadInput{"CommandIsNoString", R"({"execute": 1})",
                 "QMP input member 'execute' must be a string"},
        BadInput{"ArgumentsAreNoObject", R"({"execute": "nothing", "arguments": []})",
                 "QMP input member 'arguments' must be an object"},
        BadInput{"UnknownMember", R"({"execute": "nothing", "when": "now"})",
                 "QMP input member 'when' is unexpected"},
        BadInput{"OutOfBand", R"({"exec-oob": "nothing"})",
                 "QMP input member 'exec-oob' is unexpected"},
        BadInput{"KeyTwice", R"({"execute": "nothing", "execute": "later"})",
                 "JSON parse error, duplicate key"},
        BadInput{"KeyTwiceWithin",
                 R"({"execute": "number", "arguments": {"number": 1, "number": 2}})",
                 "JSON parse error, duplicate key"},
        BadInput{"HugeNumber", R"({"execute": "number", "arguments": {"number": 1e999}})",
                 "JSON parse error, number out of range"},
        BadInput{"NumberBeyond64Bits",
                 R"({"execute": "number", "arguments": {"number": 18446744073709551616}})",
                 "Invalid parameter type for 'number', expected: integer"},
        BadInput{"NumberBeyond63Bits",
                 R"({"execute": "number", "arguments": {"number": 9223372036854775808}})",
                 "Invalid parameter type for 'number', expected: integer"},
        BadInput{"Fraction", R"({"execute": "number", "arguments": {"number": 2.0}})",
                 "Invalid parameter type for 'number', expected: integer"},
        BadInput{"InvalidUtf8", "{\"execute\": \"\xC3(\"}", "JSON parse error at byte 15"},
        BadInput{"HalfASurrogate", R"({"execute": "\ud800"})", "JSON parse error at byte 20"}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace vballoon::tool
