#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Goal: what braid leaves behind at a clean stop is an md array, and what md leaves behind is braid's.
# Method: arrays made by `braid create`, and md's own that braid has written, are assembled by mdadm
# read-write: no resync, the same bytes, no mismatch. md writes them; braid serves them again. In
# the end md drops a member and writes: braid must not take that member's old bytes for new.
. "$(dirname "$0")/lib.sh"
need_rig

share=$work/share
mkdir "$share"
cp "$here/row-content" "$share/"
names=()

lose="" replace="" degraded=0    # a member to fail before the write; one to replace after it

member() {    # NAME COMMAND ARGUMENT...
    local name=$1; shift
    cases=$((cases + 1))
    "$cli" member "$@" --socket "$work/$name.ctl" > "$work/member.log" 2>&1 ||
        fail_case "$name: member $*: $(tail -n 1 "$work/member.log")"
}

# NAME SEED: writes content over NBD, stops cleanly, and hands the array to md. The members are in
# $share/NAME already, the ones to use are in $files.
write_and_hand_over() {
    local name=$1 seed=$2 bytes
    cases=$((cases + 1))
    serve "$name" "${files[@]}" || { fail_case "$name: not served"; return 0; }
    bytes=$(served_bytes "$name")
    [ -z "$lose" ] || member "$name" fail "$lose"
    write_content "$name" "$seed" || fail_case "$name: write"
    if [ -n "$replace" ]; then
        truncate -s "$(stat -c %s "${files[0]}")" "$share/$name/new.img"
        member "$name" replace "$replace" "$share/$name/new.img"
        files[replace]=$share/$name/new.img
    fi
    wait_idle "$name" || fail_case "$name: what runs does not end"
    expect_equal "$name: read back" "$(content_digest "$seed" "$bytes")" "$(served_digest "$name")" || true
    stop "$name" || return 0
    printf '%s\n' "${files[@]##*/}" > "$share/$name/files"
    # mdadm is not given the lost member: it still says that it is in use, so that the kernel refuses
    # it, and mdadm then starts the others only with --run.
    [ -z "$lose" ] || [ -n "$replace" ] || unset "files[lose]"
    printf '%s\n' "${files[@]##*/}" > "$share/$name/files_md"
    echo "$bytes" > "$share/$name/bytes"
    echo "$seed" > "$share/$name/seed"
    echo "$degraded" > "$share/$name/degraded"
    names+=("$name")
}

create() {    # NAME SEED COUNT OPTION...
    local name=$1 seed=$2 count=$3 i; shift 3
    mkdir "$share/$name"
    files=()
    for ((i = 0; i < count; i++)); do files+=("$share/$name/member$i.img"); done
    cases=$((cases + 1))
    "$cli" create "$@" "${files[@]}" > "$work/create.log" 2>&1 ||
        { fail_case "$name: braid create: $(tail -n 1 "$work/create.log")"; return 0; }
    write_and_hand_over "$name" "$seed"
}

adopt() {    # FIXTURE SEED: one of md's own
    unpack "$1" "$share/$1"
    files=("$share/$1"/member*.img)
    write_and_hand_over "$1" "$2"
}

# Of each level one, and of md's own.
create raid4 201 4 --level 4 --size 5M
create raid6 207 6 --level 6 --size 5M
adopt raid5-bitmap 213
lose=1 degraded=1 create raid5-lost 221 4 --level 5 --size 5M
if is_short; then
    echo "one array of each level; ./dev kernel has all"
else
    create raid5-512k 203 4 --level 5 --strip-size 512K --size 6M
    adopt raid5-64k 212
    adopt raid6-512k 216
    replace=3 create raid6-replaced 224 5 --level 6 --size 5M
    create raid5 202 5 --level 5 --size 5M
    create raid5-la 204 4 --level 5 --layout left-asymmetric --size 5M
    create raid5-ra 205 4 --level 5 --layout right-asymmetric --size 5M
    create raid5-rs 206 3 --level 5 --layout right-symmetric --strip-size 4K --size 5M
    create raid6-new-512k 208 5 --level 6 --strip-size 512K --size 6M
    adopt raid4-64k 211
    adopt raid5-in-use 214
    adopt raid6-64k 215
    # A returning, half rebuilt or replaced member is filled before the stop.
    adopt raid5-spare 217
    adopt raid5-rebuilding 218
    lose=2 degraded=1 create raid6-lost 222 5 --level 6 --size 5M
    lose=1 replace=1 create raid5-replaced 223 4 --level 5 --size 5M
fi

cat > "$work/guest" <<'EOF2'
one() {
    local name=$1 files seed expected mode
    cd "/share/$name" || return
    readarray -t files < files_md
    seed=$(< seed)
    attach "${files[@]}" || { say "$name attach failed"; return; }
    dmesg -C
    if ! mdadm --assemble /dev/md0 "${devices[@]}"; then
        say "$name assembled no"; dmesg | tail -n 5; return
    fi
    say "$name assembled yes"
    say "$name degraded $(< $md/degraded)"
    say "$name before $(md_digest)"
    mdadm --readwrite /dev/md0
    sleep 0.1
    say "$name sync $(< $md/sync_action)"
    say "$name resync $(dmesg | grep -c 'resync of RAID')"
    say "$name mismatches $(md_check)"
    md_write $((seed + 1000))
    say "$name mismatches2 $(md_check)"
    say "$name after $(md_digest)"
}
two() {    # the same once more: drop the second member of a whole array, write, stop
    local name=$1 files seed
    cd "/share/$name" || return
    readarray -t files < files_md
    seed=$(< seed)
    attach "${files[@]}" || { say "$name attach failed"; return; }
    mdadm --assemble /dev/md0 "${devices[@]}" || { say "$name assembled no"; dmesg | tail -n 5; return; }
    say "$name assembled yes"
    if [ "$(< $md/degraded)" = 0 ]; then
        mdadm --fail /dev/md0 "${devices[1]}"
        mdadm --remove /dev/md0 "${devices[1]}"
    fi
    md_write $((seed + 2000))
    say "$name after $(md_digest)"
}
for name in $(< /share/names); do "$(< /share/mode)" "$name"; detach; done
true
EOF2

result() { sed -n "s/^$1 $2 //p" "$share/results"; }

echo "${names[*]}" > "$share/names"
echo one > "$share/mode"
in_guest --share "$share"
served=()
for name in "${names[@]}"; do
    seed=$(< "$share/$name/seed") bytes=$(< "$share/$name/bytes")
    readarray -t files < "$share/$name/files"
    files=("${files[@]/#/$share/$name/}")
    last_log=
    expect_equal "$name: md assembles it" yes "$(result "$name" assembled)" || continue
    expect_equal "$name: members that md misses" "$(< "$share/$name/degraded")" "$(result "$name" degraded)" || true
    expect_equal "$name: content by md" "$(content_digest "$seed" "$bytes")" "$(result "$name" before)" || true
    expect_equal "$name: md resyncs" "idle 0" "$(result "$name" sync) $(result "$name" resync)" || true
    expect_equal "$name: md's check" 0 "$(result "$name" mismatches)" || true
    expect_equal "$name: md's check after md wrote" 0 "$(result "$name" mismatches2)" || true
    cases=$((cases + 1))
    serve "$name" "${files[@]}" || { fail_case "$name: not served after md"; continue; }
    expect_equal "$name: content after md wrote" "$(content_digest $((seed + 1000)) "$bytes")" "$(served_digest "$name")" || true
    stop "$name" || continue
    served+=("$name")
done
[ "$failures" = 0 ] || cat "$work/guest.log"

: > "$share/results"
echo "${served[*]}" > "$share/names"
echo two > "$share/mode"
in_guest --share "$share"
for name in "${served[@]}"; do
    seed=$(< "$share/$name/seed") bytes=$(< "$share/$name/bytes")
    readarray -t files < "$share/$name/files"
    files=("${files[@]/#/$share/$name/}")
    last_log=
    expect_equal "$name: md assembles it again" yes "$(result "$name" assembled)" || { cat "$work/guest.log"; continue; }
    cases=$((cases + 1))
    serve "$name" "${files[@]}" || { fail_case "$name: not served after md dropped a member"; continue; }
    expect_equal "$name: content after md dropped a member" "$(content_digest $((seed + 2000)) "$bytes")" "$(served_digest "$name")" || true
    stop "$name" || continue
done
finish
