#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Goal: the kernel's own NBD client uses braid as a disk.
# Method: in a real kernel, nbd-client attaches a RAID-5 and a RAID-6; mkfs (ext4, xfs), mount, fio
# with verify while a member fails, umount, fsck, mount again, compare files. Afterwards the array
# must have the same bytes whichever member is left out: its parity is true.
. "$(dirname "$0")/lib.sh"
need_rig

share=$work/share
mkdir "$share"

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        grep -qi ":$(printf %04X $port) " /proc/net/tcp /proc/net/tcp6 2> /dev/null || break
    done
    echo $port
}

cat > "$work/guest" <<'EOF2'
disk() {    # NAME PORT FILE-SYSTEM
    local name=$1 port=$2 fs=$3
    nbd-client "$RIG_HOST" "$port" /dev/nbd0 || return
    "mkfs.$fs" -q /dev/nbd0 || return
    mount /dev/nbd0 /mnt || return
    cp -r /usr/share/perl /mnt/tree || cp -r /usr/lib/x86_64-linux-gnu/perl-base /mnt/tree || return
    sync
    touch "/share/$name.started"
    fio --name=v --directory=/mnt --size=24m --rw=randrw --bsrange=512-64k --blockalign=512 --ioengine=libaio \
        --iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 --fsync=64 --output=/share/$name.fio || return
    fstrim -v /mnt
    (cd /mnt && find . -type f -print0 | sort -z | xargs -0 sha256sum) > /tmp/sums
    umount /mnt || return
    case $fs in
        ext4) fsck.ext4 -f -n /dev/nbd0 || return ;;
        xfs)  xfs_repair -n /dev/nbd0 > /tmp/repair 2>&1 || { cat /tmp/repair; return 1; } ;;
    esac
    nbd-client -d /dev/nbd0 || return
    sleep 0.2
    nbd-client "$RIG_HOST" "$port" /dev/nbd0 || return
    mount -o ro /dev/nbd0 /mnt || return
    (cd /mnt && sha256sum --quiet -c /tmp/sums) || return
    wc -l < /tmp/sums
    umount /mnt && nbd-client -d /dev/nbd0
}
while read -r name port fs; do
    if disk "$name" "$port" "$fs"; then say "$name works"; else say "$name fails"; dmesg | tail -n 10; fi
    umount /mnt 2> /dev/null
    nbd-client -d /dev/nbd0 2> /dev/null
done < /share/disks
true
EOF2

disks=() ports=()
declare -A port_of=()
start() {    # NAME LEVEL MEMBER-COUNT SIZE FILE-SYSTEM
    local i port
    mkdir "$work/$1"
    files=()
    for ((i = 0; i < $3; i++)); do files+=("$work/$1/member$i.img"); done
    cases=$((cases + 1))
    "$cli" create --level "$2" --size "$4" "${files[@]}" > "$work/create.log" 2>&1 ||
        { fail_case "$1: create: $(tail -n 1 "$work/create.log")"; return 0; }
    port=$(free_port)
    serve_with "$1" -p "$port" -i 127.0.0.1 -- "${files[@]}" || { fail_case "$1: not served"; return 0; }
    echo "$1 $port $5" >> "$share/disks"
    disks+=("$1") ports+=(--port "$port") port_of[$1]=$port
}
is_short_here || start ext4-on-raid5 5 4 72M ext4
start xfs-on-raid6 6 5 128M xfs
[ "${#disks[@]}" != 0 ] || finish

start_guest --share "$share" "${ports[@]}"
# A member fails while fio runs.
for name in "${disks[@]}"; do
    while [ ! -e "$share/$name.started" ] && guest_runs; do sleep 0.1; done
    sleep 1
    cases=$((cases + 1))
    "$cli" member fail --socket "$work/$name.ctl" 1 > "$work/fail.log" 2>&1 || fail_case "$name: member fail: $(cat "$work/fail.log")"
done
end_guest
for name in "${disks[@]}"; do
    last_log=${server_log[$name]}
    expect_equal "$name" "$name works" "$(grep "^$name " "$share/results")" || true
done
[ "$failures" = 0 ] || cat "$work/guest.log" "$share"/*.fio

# The RAID-5 gets a new member; the RAID-6 stays without.
if [ -n "${port_of[ext4-on-raid5]:-}" ]; then
    name=ext4-on-raid5
    truncate -s "$(stat -c %s "$work/$name/member0.img")" "$work/$name/new.img"
    cases=$((cases + 1))
    "$cli" member replace --socket "$work/$name.ctl" 1 "$work/$name/new.img" > "$work/replace.log" 2>&1 ||
        fail_case "$name: member replace: $(cat "$work/replace.log")"
    wait_idle $name || fail_case "$name: the rebuild does not end"
    rm "$work/$name/member1.img"
fi
rm -f "$work/xfs-on-raid6/member1.img"

# Parity: the same bytes with each further member left out.
for name in "${disks[@]}"; do
    whole=$(nbdcopy "nbd://127.0.0.1:${port_of[$name]}" - | digest)
    stop "$name" || continue
    for left_out in "$work/$name"/*.img; do
        readarray -t files < <(printf '%s\n' "$work/$name"/*.img | grep -vFx "$left_out")
        title="$name without ${left_out##*/}"
        cases=$((cases + 1))
        serve "$name" readonly=true "${files[@]}" || { fail_case "$title: not served"; continue; }
        expect_equal "$title" "$whole" "$(served_digest "$name")" || true
        stop "$name" || continue
    done
done
finish
