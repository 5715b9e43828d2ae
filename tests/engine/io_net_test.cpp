// SPDX-License-Identifier: BSD-3-Clause
// The contract of connections between nodes, asked of the simulated ones and of sockets behind
// io_uring; and what only sockets have: files, names, a backlog, descriptors, guests on the loop.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <semaphore>
#include <thread>

#include "engine/base/unique_fd.h"
#include "engine/io/listen_socket.h"
#include "engine/io/socket_address.h"
#include "engine/io/uring_loop.h"
#include "engine/io/uring_net.h"
#include "tests/engine/loop_thread.h"
#include "tests/engine/net_contract.h"
#include "tests/engine/sim_net_world.h"

namespace braid::test {
namespace {

/// A port that the kernel finds free.
std::optional<std::uint16_t> free_port(NetAddress address) {
    address.port = 0;
    SocketAddress place = socket_address_of(address).value();
    const auto fd = make_socket(place);
    if (!fd || bind(fd->get(), place.get(), place.size) != 0) return std::nullopt;
    if (getsockname(fd->get(), place.get(), &place.size) != 0) return std::nullopt;
    const bool is_ip4 = address.kind == AddressKind::ip4;
    return ntohs(is_ip4 ? reinterpret_cast<sockaddr_in&>(place.storage).sin_port
                        : reinterpret_cast<sockaddr_in6&>(place.storage).sin6_port);
}

/// A folder that is gone with its object.
class Folder {
  public:
    Folder() : path_(std::filesystem::temp_directory_path() / "braid.XXXXXX") {
        EXPECT_NE(mkdtemp(path_.data()), nullptr);
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    NetAddress socket(const std::string& name) const {
        return {AddressKind::unix_socket, path_ + "/" + name, 0};
    }
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

class UringNetWorld final : public NetWorld {
  public:
    explicit UringNetWorld(AddressKind kind, std::uint64_t connect_ms = net_connect_ms)
        : kind_(kind), loop_(UringLoop::create().value()), net_(*loop_, connect_ms) {}
    template <AddressKind kind>
    static std::unique_ptr<NetWorld> make() {
        if (kind == AddressKind::ip6 && !free_port(localhost(kind))) return nullptr;
        return std::make_unique<UringNetWorld>(kind);
    }
    Net& net() override { return net_; }
    ReadyQueue& ready() override { return loop_->ready(); }
    void run(Task<void> task) override { loop_->run_until_done(std::move(task)); }
    NetAddress new_address() override {
        if (kind_ == AddressKind::unix_socket) return folder_.socket(std::to_string(++sockets_));
        NetAddress address = localhost(kind_);
        address.port = free_port(address).value();
        return address;
    }
    UringLoop& loop() { return *loop_; }
    const Folder& folder() const { return folder_; }

  private:
    static NetAddress localhost(AddressKind kind) {
        return {kind, kind == AddressKind::ip4 ? "127.0.0.1" : "::1", 0};
    }

    AddressKind kind_;
    Folder folder_;
    int sockets_{0};
    std::unique_ptr<UringLoop> loop_;
    UringNet net_;
};

INSTANTIATE_TEST_SUITE_P(
    Nets, NetContract,
    testing::Values(NetWorldKind{"sim", SimNetWorld<1>::make},
                    NetWorldKind{"ip4", UringNetWorld::make<AddressKind::ip4>},
                    NetWorldKind{"ip6", UringNetWorld::make<AddressKind::ip6>},
                    NetWorldKind{"unix_socket", UringNetWorld::make<AddressKind::unix_socket>}),
    name_of);

/// Whoever has connected, and was not accepted, hears that nobody will.
Task<void> never_accepted(NetWorld* world) {
    const NetAddress address = world->new_address();
    auto listener = co_await make_listener(world, address);
    auto connected = co_await world->net().connect(address);
    EXPECT_TRUE(connected);
    if (!connected) co_return;
    listener->shut();
    Buffer got(1);
    const auto end = co_await receive(connected->get(), got.span(), 1);
    EXPECT_FALSE(end);
}
TEST_P(NetContract, WhoWaitsForAnAcceptHearsThatThereIsNone) { run(never_accepted); }

// ---- sockets -------------------------------------------------------------------------------

class UringNets : public testing::Test {
  protected:
    UringNetWorld unix_{AddressKind::unix_socket};
    UringNetWorld ip4_{AddressKind::ip4};
};

void expect_text(const Refusal& refusal, const std::vector<std::string>& words) {
    for (const std::string& word : words) {
        EXPECT_NE(refusal.text.find(word), std::string::npos) << refusal.text << ": no " << word;
    }
}
Task<void> expect_no_listener(NetWorld* world, NetAddress address, std::vector<std::string> words) {
    const auto listener = co_await world->net().listen(address);
    EXPECT_FALSE(listener);
    words.push_back(text_of(address));
    if (!listener) expect_text(listener.error(), words);
}
Task<void> expect_no_connection(NetWorld* world, NetAddress address,
                                std::vector<std::string> words) {
    const auto connection = co_await world->net().connect(address);
    EXPECT_FALSE(connection);
    words.push_back(text_of(address));
    if (!connection) expect_text(connection.error(), words);
}
Task<void> expect_connection(NetWorld* world, NetAddress address) {
    const auto listener = co_await make_listener(world, address);
    Link link = co_await make_link(world, listener.get(), address);
    co_await let_pass(&link);
}
/// Whose socket holds the address is gone in a while, as after a process that its io_uring outlives.
Task<void> let_go_after(UringLoop* loop, UniqueFd fd, Nanos time) {
    Timer timer(*loop, Nanos{loop->now().value + time.value});
    co_await timer;
    fd = UniqueFd();
}
Task<void> listen_at_held(UringNetWorld* world, NetAddress address, Nanos held, bool is_free) {
    const SocketAddress place = socket_address_of(address).value();
    auto holder = listen_at(place, "");
    EXPECT_TRUE(holder);
    if (!holder) co_return;
    TaskGroup beside(world->ready());
    beside.spawn(let_go_after(&world->loop(), std::move(holder->fd), held));
    const std::uint64_t begin = world->loop().now().value;
    const auto listener = co_await world->net().listen(address);
    const std::uint64_t took = world->loop().now().value - begin;
    EXPECT_EQ(listener.has_value(), is_free);
    EXPECT_GE(took, is_free ? held.value : seconds(1).value);
    if (!listener) expect_text(listener.error(), {"is in use by another program"});
    co_await beside.join();
}
Task<void> listen_into(NetWorld* world, NetAddress address, std::unique_ptr<Listener>* into) {
    *into = co_await make_listener(world, address);
}

/// Leaves a socket's file behind, as a process does that is killed.
void leave_socket(const NetAddress& address) {
    SocketAddress place = socket_address_of(address).value();
    const auto fd = make_socket(place);
    ASSERT_TRUE(fd);
    ASSERT_EQ(bind(fd->get(), place.get(), place.size), 0);
    ASSERT_EQ(listen(fd->get(), 1), 0);
}

TEST_F(UringNets, ADeadProcessesSocketIsReplaced) {
    const NetAddress address = unix_.new_address();
    leave_socket(address);
    ASSERT_TRUE(std::filesystem::exists(address.host));
    unix_.run(expect_connection(&unix_, address));
    EXPECT_FALSE(std::filesystem::exists(address.host)) << "it goes with its listener";
}

// Goal: a server that is started in the place of one that has just died takes its address; one that
// is held for longer is refused as before.
TEST_F(UringNets, AnAddressThatIsHeldForAMomentIsWaitedFor) {
    const NetAddress address = ip4_.new_address();
    ip4_.run(listen_at_held(&ip4_, address, millis(300), true));
    ip4_.run(listen_at_held(&ip4_, address, millis(1500), false));
}

TEST_F(UringNets, ASocketIsItsOwnersAlone) {
    const NetAddress address = unix_.new_address();
    std::unique_ptr<Listener> listener;
    unix_.run(listen_into(&unix_, address, &listener));
    struct stat status {};
    ASSERT_EQ(stat(address.host.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
    listener->shut();
    EXPECT_FALSE(std::filesystem::exists(address.host)) << "it goes when it is shut";
}

TEST_F(UringNets, ALivingProcessesSocketIsRefusedByItsName) {
    const NetAddress address = unix_.new_address();
    std::unique_ptr<Listener> listener;
    unix_.run(listen_into(&unix_, address, &listener));
    std::vector<std::string> words{"process " + std::to_string(getpid()), "listens there",
                                   "choose another path"};
    std::ifstream comm("/proc/self/comm");
    std::getline(comm, words.emplace_back());
    unix_.run(expect_no_listener(&unix_, address, words));
    EXPECT_TRUE(std::filesystem::exists(address.host));
}

/// The kernel keeps a socket for what an io_uring had under way, a while after the process has died.
TEST_F(UringNets, ADeadProcessesSocketThatIsStillThereIsReplaced) {
    const NetAddress address = unix_.new_address();
    const UniqueFd kept(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un place{};
    place.sun_family = AF_UNIX;
    ASSERT_LT(address.host.size(), sizeof place.sun_path);
    std::memcpy(place.sun_path, address.host.data(), address.host.size());
    ASSERT_EQ(bind(kept.get(), reinterpret_cast<sockaddr*>(&place), sizeof place), 0);
    const pid_t dead = fork();
    if (dead == 0) _exit(listen(kept.get(), 8) == 0 ? 0 : 1);
    int status = -1;
    ASSERT_EQ(waitpid(dead, &status, 0), dead);
    ASSERT_EQ(status, 0);
    unix_.run(expect_connection(&unix_, address));
}

TEST_F(UringNets, WhatIsNoSocketIsLeftAlone) {
    const NetAddress address = unix_.new_address();
    { std::ofstream(address.host) << "a file"; }
    unix_.run(expect_no_listener(&unix_, address, {"there is a file of this name"}));
    const NetAddress folder{AddressKind::unix_socket, unix_.folder().path(), 0};
    unix_.run(expect_no_listener(&unix_, folder, {"there is a directory of this name"}));
    EXPECT_EQ(std::filesystem::file_size(address.host), 6U);
}

TEST_F(UringNets, AnothersSocketStaysWhenOursIsShut) {
    const NetAddress address = unix_.new_address();
    std::unique_ptr<Listener> listener;
    unix_.run(listen_into(&unix_, address, &listener));
    std::filesystem::remove(address.host);
    leave_socket(address);
    listener->shut();
    listener.reset();
    EXPECT_TRUE(std::filesystem::exists(address.host));
}

/// A new file system in the place of `path`, that only this process sees.
bool mount_new(const std::string& path) {
    return mount("braid-test", path.c_str(), "tmpfs", 0, nullptr) == 0;
}

enum class Outcome { kept, removed, impossible };

/// In a process of its own, since it takes leave of everybody's mounts.
Outcome remove_under_a_mount(const NetAddress& address, const std::string& folder) {
    const int flags = geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS;
    if (unshare(flags) != 0) return Outcome::impossible;
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Outcome::impossible;
    struct stat ours {
    }, theirs{};
    if (!mount_new(folder)) return Outcome::impossible;
    leave_socket(address);
    SocketFile file(address.host);
    const bool is_there = lstat(address.host.c_str(), &ours) == 0 && mount_new(folder);
    leave_socket(address);
    if (!is_there || lstat(address.host.c_str(), &theirs) != 0) return Outcome::impossible;
    if (theirs.st_ino != ours.st_ino || theirs.st_dev == ours.st_dev) return Outcome::impossible;
    file.remove();
    return lstat(address.host.c_str(), &theirs) == 0 ? Outcome::kept : Outcome::removed;
}

// New file systems of one kind number their files alike.
TEST_F(UringNets, ASocketOfTheSameNumberOnAnotherFileSystemStays) {
    const NetAddress address = unix_.new_address();
    const pid_t child = fork();
    if (child == 0) {
        _exit(static_cast<int>(remove_under_a_mount(address, unix_.folder().path())));
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    const auto outcome = static_cast<Outcome>(WEXITSTATUS(status));
    if (outcome == Outcome::impossible) GTEST_SKIP() << "no file systems can be mounted here";
    EXPECT_EQ(outcome, Outcome::kept);
}

TEST_F(UringNets, PathsThatCannotBeAreRefused) {
    const NetAddress longest{AddressKind::unix_socket, "/" + std::string(200, 'x'), 0};
    unix_.run(expect_no_listener(&unix_, longest, {"bytes", "choose a shorter one"}));
    unix_.run(expect_no_connection(&unix_, longest, {"bytes", "choose a shorter one"}));
    const NetAddress nowhere = unix_.folder().socket("no/such/folder");
    unix_.run(expect_no_listener(&unix_, nowhere, {"No such file or directory"}));
    unix_.run(expect_no_connection(&unix_, nowhere, {"nobody listens there"}));
}

TEST_F(UringNets, AddressesOfOtherMachinesCannotBeListenedAt) {
    const NetAddress foreign{AddressKind::ip4, "192.0.2.1", 9000};  // RFC 5737
    ip4_.run(expect_no_listener(&ip4_, foreign, {"is no address of this machine"}));
    const NetAddress wrong{AddressKind::ip4, "1.2.3", 9000};
    ip4_.run(expect_no_listener(&ip4_, wrong, {"is no IPv4 address"}));
    ip4_.run(
        expect_no_connection(&ip4_, {AddressKind::ip6, "1.2.3.4", 9000}, {"is no IPv6 address"}));
}

TEST_F(UringNets, NamesAreLookedUp) {
    NetAddress address = ip4_.new_address();
    address.kind = AddressKind::name;
    address.host = "localhost";
    ip4_.run(expect_no_connection(&ip4_, address, {"127.0.0.1", "nobody listens there"}));
    ip4_.run(expect_connection(&ip4_, address));
}

Task<void> look_up_beside(NetWorld* world, NetAddress address, int count) {
    TaskGroup group(world->ready());
    for (int i = 0; i != count; ++i) {
        group.spawn(expect_no_connection(world, address, {"127.0.0.1", "nobody listens there"}));
    }
    co_await group.join();
}
TEST_F(UringNets, NamesAreLookedUpBesideEachOther) {
    NetAddress address = ip4_.new_address();
    address.kind = AddressKind::name;
    address.host = "localhost";
    for (int i = 0; i != 5; ++i) {
        ip4_.run(look_up_beside(&ip4_, address, static_cast<int>(net_lookups_max)));
    }
}

Task<void> note_refusal(NetWorld* world, NetAddress address, std::vector<std::string>* texts) {
    const auto connection = co_await world->net().connect(address);
    EXPECT_FALSE(connection);
    if (!connection) texts->push_back(connection.error().text);
}
Task<void> look_up_too_many(NetWorld* world, NetAddress address) {
    std::vector<std::string> texts;
    TaskGroup group(world->ready());
    for (std::size_t i = 0; i != net_lookups_max + 1; ++i) {
        group.spawn(note_refusal(world, address, &texts));
    }
    co_await group.join();
    const auto refused = std::ranges::count_if(texts, [](const std::string& text) {
        return text.find("others have no answer yet") != text.npos;
    });
    EXPECT_EQ(texts.size(), net_lookups_max + 1);
    EXPECT_EQ(refused, 1);
}
TEST_F(UringNets, NamesThatAreLookedUpAtOnceAreBounded) {
    const NetAddress address{AddressKind::name, "localhost", ip4_.new_address().port};
    ip4_.run(look_up_too_many(&ip4_, address));
    ip4_.run(look_up_beside(&ip4_, address, static_cast<int>(net_lookups_max)));
}

TEST_F(UringNets, ANameThatIsNotKnownIsRefused) {
    // A label has 63 bytes at most, so that no server need be asked.
    const NetAddress address{AddressKind::name, std::string(64, 'x') + ".example", 9000};
    ip4_.run(expect_no_connection(&ip4_, address, {"the name is not known", "correct it"}));
    ip4_.run(expect_no_listener(&ip4_, address, {"the name is not known", "correct it"}));
}

/// Fills what a listener has room for, so that whoever comes next gets no answer.
class FullListener {
  public:
    explicit FullListener(const NetAddress& address) {
        SocketAddress place = socket_address_of(address).value();
        listener_ = make_socket(place).value();
        EXPECT_EQ(bind(listener_.get(), place.get(), place.size), 0);
        EXPECT_EQ(listen(listener_.get(), 0), 0);
        for (int i = 0; i != 16; ++i) {
            UniqueFd& one = waiting_.emplace_back(make_socket(place).value());
            EXPECT_EQ(fcntl(one.get(), F_SETFL, O_NONBLOCK), 0);
            [[maybe_unused]] const int full = connect(one.get(), place.get(), place.size);
        }
    }

  private:
    UniqueFd listener_;
    std::vector<UniqueFd> waiting_;
};

TEST(UringNet, ConnectHasItsTime) {
    for (const AddressKind kind : {AddressKind::ip4, AddressKind::unix_socket}) {
        UringNetWorld world(kind, 50);
        const NetAddress address = world.new_address();
        const FullListener full(address);
        const Nanos begin = world.loop().now();
        world.run(expect_no_connection(&world, address, {"no answer in time (50 ms)", "firewall"}));
        EXPECT_GE(world.loop().now().value - begin.value, millis(50).value);
    }
}

/// The name is found before the time is over, or after it: in both cases it is over.
TEST(UringNet, ANameHasItsTimeToo) {
    for (int i = 0; i != 20; ++i) {
        UringNetWorld world(AddressKind::ip4, 0);
        NetAddress address = world.new_address();
        const FullListener full(address);
        address.kind = AddressKind::name;
        address.host = "localhost";
        world.run(expect_no_connection(&world, address, {"in time"}));
    }
}

TEST(UringNet, ALivingListenerThatIsFullIsNotReplaced) {
    UringNetWorld world(AddressKind::unix_socket);
    const NetAddress address = world.new_address();
    const FullListener full(address);
    world.run(expect_no_listener(&world, address, {"listens there", "stop it"}));
    EXPECT_TRUE(std::filesystem::exists(address.host));
}

std::size_t descriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}
TEST_F(UringNets, NoDescriptorIsLeftOpen) {
    const std::size_t before = descriptors();
    for (NetWorld* world : std::array<NetWorld*, 2>{&unix_, &ip4_}) {
        world->run(many_at_once(world));
        world->run(listener_shut(world));
        world->run(listener_shut_at_once(world));
        world->run(never_accepted(world));
        world->run(nobody_listens(world));
        world->run(listens_twice(world));
        world->run(listens_again(world));
    }
    EXPECT_EQ(descriptors(), before);
}

Task<void> expect_not_inherited(NetWorld* world) {
    const Link link = co_await make_link(world);
    EXPECT_NE(link.asker, nullptr);
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        const int fd = std::stoi(entry.path().filename());
        struct stat status {};
        if (fstat(fd, &status) != 0 || !S_ISSOCK(status.st_mode) || fd <= STDERR_FILENO) continue;
        EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0) << fd;
    }
}
TEST_F(UringNets, NoSocketIsInherited) {
    unix_.run(expect_not_inherited(&unix_));
    ip4_.run(expect_not_inherited(&ip4_));
}

/// Nobody is left who could be accepted: the error is told, and the listener stays as it is.
Task<void> accept_without_descriptors(NetWorld* world) {
    const NetAddress address = world->new_address();
    const auto listener = co_await make_listener(world, address);
    const auto connected = co_await world->net().connect(address);
    EXPECT_TRUE(connected);
    std::vector<UniqueFd> all;
    while (all.empty() || all.back().get() >= 0) all.emplace_back(dup(STDERR_FILENO));
    std::optional<int> os_error;
    co_await accept_result(listener.get(), &os_error);
    EXPECT_EQ(os_error, EMFILE);
    all.clear();
    co_await accept_result(listener.get(), &os_error);
    EXPECT_EQ(os_error, 0);
}
TEST_F(UringNets, AnAcceptWithoutADescriptorCanBeTriedAgain) {
    unix_.run(accept_without_descriptors(&unix_));
    ip4_.run(accept_without_descriptors(&ip4_));
}

// ---- guests on the loop --------------------------------------------------------------------

/// Guests bring what needs the ring, which only the loop's own thread may touch.
class NetErrand final : public Message, public NetWorld {
  public:
    NetErrand(UringLoop& loop, Net& net, const Folder& folder, int number)
        : loop_(loop), net_(net), folder_(folder), number_(number) {}
    Net& net() override { return net_; }
    ReadyQueue& ready() override { return loop_.ready(); }
    NetAddress new_address() override {
        return folder_.socket(std::to_string(number_) + "-" + std::to_string(++addresses_));
    }
    void run(Task<void>) override { ADD_FAILURE() << "a guest has it begun by the leader"; }
    /// On a thread that is not the loop's.
    void bring(Task<void> (*body)(NetWorld*)) {
        body_ = body;
        Message::run = [](Message& message) {
            auto& self = static_cast<NetErrand&>(message);
            self.loop_.tasks().spawn(self.finish());
        };
        loop_.post_or_lead(*this);
        over_.acquire();
    }

  private:
    Task<void> finish() {
        co_await body_(this);
        over_.release();
    }

    UringLoop& loop_;
    Net& net_;
    const Folder& folder_;
    int number_;
    int addresses_{0};
    Task<void> (*body_)(NetWorld*){nullptr};
    std::binary_semaphore over_{0};
};

TEST(UringNet, GuestsOfTheLoopMayBringAnything) {
    const Folder folder;
    std::unique_ptr<UringNet> net;
    LoopThread thread;
    net = std::make_unique<UringNet>(thread.loop());
    std::vector<std::thread> guests;
    for (int guest = 0; guest != 3; ++guest) {
        guests.emplace_back([&, guest] {
            for (int i = 0; i != 30; ++i) {
                NetErrand errand(thread.loop(), *net, folder, guest);
                errand.bring(listener_shut_at_once);
                errand.bring(nobody_listens);
                errand.bring(shut_at_once);
                errand.bring(last_byte);
            }
        });
    }
    for (std::thread& guest : guests) guest.join();
}

}  // namespace
}  // namespace braid::test
