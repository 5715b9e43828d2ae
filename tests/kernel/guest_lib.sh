# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# The guest's side: put before each script that runs in the rig. /share/row-content is there.
set -uo pipefail
md=/sys/block/md0/md

# FILE...: makes block devices of them, in $devices.
attach() {
    local file
    modprobe loop max_loop=64
    devices=()
    for file in "$@"; do devices+=("$(losetup --find --show "$file")") || return 1; done
}

detach() {
    [ ! -e $md ] || mdadm --stop /dev/md0
    losetup --detach-all
    sync
}

md_digest() { dd if=/dev/md0 bs=1M iflag=direct status=none | sha256sum | cut -d' ' -f1; }

md_write() {    # SEED
    /share/row-content "$1" "$(blockdev --getsize64 /dev/md0)" |
        dd of=/dev/md0 bs=64K iflag=fullblock oflag=direct conv=fsync status=none
}

md_wait() { mdadm --wait /dev/md0 || true; }

md_check() {    # prints the number of sectors that md's own check finds wrong
    echo check > $md/sync_action
    md_wait
    cat $md/mismatch_cnt
}

say() { echo "$*" >> /share/results; }    # NAME WORD FOUND: for the host to judge
