#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Goal: md never runs an array that braid has in use, or had when its process died.
# Method: the members are copied while they are served, and once more after kill -9. A real md must
# refuse both, also when forced, and change nothing. Then braid serves and stops cleanly, and md
# takes the array with the same bytes and no mismatch.
. "$(dirname "$0")/lib.sh"
need_rig

share=$work/share
mkdir "$share"
cp "$here/row-content" "$share/"

cat > "$work/guest" <<'EOF2'
state() { if [ -e $md/array_state ]; then cat $md/array_state; else echo none; fi; }
whole() { cat member*.img | sha256sum | cut -d' ' -f1; }
for folder in $(< /share/folders); do
    cd "/share/$folder" || exit 1
    before=$(whole)
    attach member*.img || exit 1
    case $folder in
        *-stopped)
            mdadm --assemble /dev/md0 "${devices[@]}"
            say "$folder state $(state)"
            say "$folder content $(md_digest)"
            say "$folder mismatches $(md_check)"
            ;;
        *)
            mdadm --assemble /dev/md0 "${devices[@]}"
            say "$folder state $(state)"
            mdadm --stop /dev/md0
            mdadm --assemble --run /dev/md0 "${devices[@]}"
            say "$folder run $(state)"
            mdadm --stop /dev/md0
            mdadm --incremental "${devices[0]}"
            detach
            say "$folder unchanged $([ "$before" = "$(whole)" ] && echo yes || echo no)"
            attach member*.img || exit 1
            mdadm --assemble --force --run /dev/md0 "${devices[@]}"
            say "$folder force $(state)"
            ;;
    esac
    dmesg -c | grep -i md | tail -n 4
    mdadm --stop --scan
    detach
done
true
EOF2

result() { sed -n "s/^$1 $2 //p" "$share/results"; }
copy() { mkdir "$share/$2"; cp --sparse=always "$work/$1"/member*.img "$share/$2/"; folders+=("$2"); }

# A state in which md does not run the array.
expect_refused() {    # WHAT STATE
    cases=$((cases + 1))
    case $2 in none|inactive|clear) ;; *) fail_case "$1: md runs it: $2" ;; esac
}

folders=()
declare -A content=()
for level in 5 6; do
    mkdir "$work/raid$level"
    "$cli" create --level $level --size 6M "$work/raid$level"/member{0,1,2,3}.img > "$work/create.log" 2>&1 ||
        { fail_case "raid$level: create: $(tail -n 1 "$work/create.log")"; continue; }
    cases=$((cases + 1))
    serve a "$work/raid$level"/member*.img || { fail_case "raid$level: not served"; continue; }
    bytes=$(served_bytes a)
    content[raid$level-stopped]=$(content_digest 301 "$bytes")
    copy raid$level "raid$level-served"
    write_content a 301
    copy raid$level "raid$level-written"
    crash a
    copy raid$level "raid$level-crashed"
    cases=$((cases + 1))
    # At once: the kernel holds the killed server's locks for some 50 ms, which braid waits for.
    serve a "$work/raid$level"/member*.img || { fail_case "raid$level: not served after kill -9"; continue; }
    expect_equal "raid$level: content after kill -9" "${content[raid$level-stopped]}" "$(served_digest a)" || true
    wait_idle a || fail_case "raid$level: the resync does not end"
    stop a || continue
    copy raid$level "raid$level-stopped"
done

last_log=
echo "${folders[*]}" > "$share/folders"
in_guest --share "$share"
for folder in "${folders[@]}"; do
    case $folder in
        *-stopped)
            cases=$((cases + 1))
            case $(result "$folder" state) in
                clean|active|read-auto|active-idle|write-pending) ;;
                *) fail_case "$folder: md does not run it: $(result "$folder" state)" ;;
            esac
            expect_equal "$folder: content by md" "${content[$folder]}" "$(result "$folder" content)" || true
            expect_equal "$folder: md's check" 0 "$(result "$folder" mismatches)" || true
            ;;
        *)
            expect_refused "$folder" "$(result "$folder" state)"
            expect_refused "$folder with --run" "$(result "$folder" run)"
            expect_refused "$folder with --force" "$(result "$folder" force)"
            expect_equal "$folder: members unchanged by md" yes "$(result "$folder" unchanged)" || true
            ;;
    esac
done
[ "$failures" = 0 ] || cat "$work/guest.log"
finish
