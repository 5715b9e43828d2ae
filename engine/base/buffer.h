// SPDX-License-Identifier: BSD-3-Clause
// Buffer: owned bytes on a row boundary, for set-up, tests and tools. The path of a client's
// request takes its memory from BufferPool instead.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "engine/base/units.h"
#include "parity/bytes.h"

namespace braid {

class Buffer {
  public:
    Buffer() = default;
    /// `size` zero bytes at an address that is a multiple of 4096.
    explicit Buffer(std::size_t size) : bytes_(allocate(size)), size_(size) {
        if (size != 0) std::memset(bytes_.get(), 0, size);
    }
    /// Of any content: all of it is written before any of it is read.
    static Buffer unset(std::size_t size) {
        Buffer buffer;
        buffer.bytes_.reset(allocate(size));
        buffer.size_ = size;
        return buffer;
    }
    explicit Buffer(ByteView from) : bytes_(allocate(from.size())), size_(from.size()) {
        if (size_ != 0) std::memcpy(bytes_.get(), from.data(), size_);
    }
    Buffer(const Buffer& other) : Buffer(other.view()) {}
    Buffer(Buffer&& other) noexcept
        : bytes_(std::move(other.bytes_)), size_(std::exchange(other.size_, 0)) {}
    Buffer& operator=(Buffer other) noexcept {
        std::swap(bytes_, other.bytes_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~Buffer() = default;

    std::byte* data() { return bytes_.get(); }
    const std::byte* data() const { return bytes_.get(); }
    std::size_t size() const { return size_; }
    ByteSpan span() { return {bytes_.get(), size_}; }
    ByteView view() const { return {bytes_.get(), size_}; }
    bool operator==(const Buffer& other) const {
        return size_ == other.size_ &&
               (size_ == 0 || std::memcmp(data(), other.data(), size_) == 0);
    }

  private:
    static constexpr std::align_val_t alignment{row_size};
    static std::byte* allocate(std::size_t size) {
        return size == 0 ? nullptr : static_cast<std::byte*>(::operator new(size, alignment));
    }
    struct Free {
        void operator()(std::byte* bytes) const { ::operator delete(bytes, alignment); }
    };
    std::unique_ptr<std::byte, Free> bytes_;
    std::size_t size_{0};
};

}  // namespace braid
