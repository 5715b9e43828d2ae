#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Goal: arrays that mdadm made are served with the same bytes.
# Method: every fixture is served whole, then with each set of members missing that the level allows,
# then written and served again; what is not served must be refused with no byte changed.
. "$(dirname "$0")/lib.sh"

members_of() {    # FOLDER [LEFT-OUT]...: all its members but these
    local file
    for file in "$1"/member*.img; do
        [[ " ${*:2} " == *" ${file##*/} "* ]] || echo "$file"
    done
}

# NAME FILE...: members whose data starts so early that they have no room for promises are served by
# themselves only if all are there; else by force, the first time.
serve_first() {
    serve "$@" && return 0
    grep -q 'no room for promises' "$last_log" && serve "$@" force=true
}

# FIXTURE [LEFT-OUT]...: serves a fresh copy without these members and compares the content; writes
# other content; serves it once more and compares that.
try() {
    local name=$1 folder=$work/array title="$1 without ${*:2}" files seed bytes
    [ $# -gt 1 ] || title=$1
    rm -rf "$folder"; cp -r --sparse=always "$work/whole" "$folder"
    readarray -t files < <(members_of "$folder" "${@:2}")
    seed=$(field "$name" .content.seed) bytes=$(field "$name" .array_bytes)
    cases=$((cases + 1))
    serve_first a "${files[@]}" || { fail_case "$title: not served"; return 0; }
    expect_equal "$title: size" "$bytes" "$(served_bytes a)" || true
    expect_equal "$title: content" "$(field "$name" .content.sha256)" "$(served_digest a)" || true
    write_content a $((seed + 1000)) || fail_case "$title: write"
    expect_equal "$title: content after a write" "$(content_digest $((seed + 1000)) "$bytes")" "$(served_digest a)" || true
    stop a || return 0
    cases=$((cases + 1))
    serve a "${files[@]}" || { fail_case "$title: not served a second time"; return 0; }
    expect_equal "$title: content after a restart" "$(content_digest $((seed + 1000)) "$bytes")" "$(served_digest a)" || true
    stop a || return 0
}

# FIXTURE LEFT-OUT: not stopped cleanly and a member missing: what that member held cannot be known for
# sure. Refused, and only by force served.
try_doubtful() {
    local name=$1 folder=$work/array files before
    rm -rf "$folder"; cp -r --sparse=always "$work/whole" "$folder"
    readarray -t files < <(members_of "$folder" "$2")
    before=$(members_digest "$folder")
    cases=$((cases + 1))
    if serve a "${files[@]}"; then fail_case "$name without $2: served, though parity is in doubt"; stop a || true; return 0; fi
    expect_equal "$name without $2: refused, members as before" "$before" "$(members_digest "$folder")" || true
    cases=$((cases + 1))
    serve a "${files[@]}" force=true || { fail_case "$name without $2: not served by force"; return 0; }
    expect_equal "$name without $2: content" "$(field "$name" .content.sha256)" "$(served_digest a)" || true
    stop a || return 0
}

# FIXTURE: one that braid need not support. Either it is refused and left alone, or it is right.
try_foreign() {
    local name=$1 folder=$work/array before
    rm -rf "$folder"; unpack "$name" "$folder"
    before=$(members_digest "$folder")
    cases=$((cases + 1))
    if serve a "$folder"/member*.img; then
        echo "$name: served"
        expect_equal "$name: content" "$(field "$name" .content.sha256)" "$(served_digest a)" || true
        stop a || return 0
    else
        echo "$name: refused: $(grep -m 1 . "$last_log")"
        grep -q . "$last_log" || fail_case "$name: refused without a word"
        expect_equal "$name: refused, members as before" "$before" "$(members_digest "$folder")" || true
    fi
}

for path in "$fixtures"/*/fixture.json; do
    name=$(basename "$(dirname "$path")")
    case $name:$(jq -r .kind "$path") in
        raid6-la*|*:raid1|*:ppl|*:journal|*:super*) try_foreign "$name"; continue ;;
    esac
    rm -rf "$work/whole"; unpack "$name" "$work/whole"
    try "$name"
    # Each member alone that can be spared, each pair for RAID-6.
    spare=$(jq -r '([.members[] | select(.state == "in_sync")] | length) - .member_count + (if .level == 6 then 2 else 1 end)' "$path")
    readarray -t used < <(jq -r '.members[] | select(.state == "in_sync") | .file' "$path")
    [ "$spare" -ge 1 ] || continue
    if [ "$(jq .clean "$path")" = false ]; then
        for one in "${used[@]}"; do try_doubtful "$name" "$one"; done
        continue
    fi
    # All of one that needs Q; else one.
    case $name in raid6-64k) ;; *) ! is_short || used=("${used[0]}") ;; esac
    for one in "${used[@]}"; do try "$name" "$one"; done
    [ "$spare" = 2 ] && [ "$name" != raid6-512k ] || continue    # its pairs would take long
    for ((i = 0; i < ${#used[@]}; i++)); do
        for ((j = i + 1; j < ${#used[@]}; j++)); do try "$name" "${used[i]}" "${used[j]}"; done
    done
done
finish
