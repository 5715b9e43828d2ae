# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# What the tests against a real kernel share. Sourced; leaves $work, a folder that goes away at the
# end together with every server that was started.
#
# BRAID_CLI and BRAID_PLUGIN name the command and the plugin; ctest sets them. A script goes on after
# a case that failed and ends with status 1 then; 77 means: cannot be run here, for the reason printed.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
build=$here/../../build/release
cli=$(realpath -m "${BRAID_CLI:-$build/cli/braid}")
plugin=$(realpath -m "${BRAID_PLUGIN:-$build/plugin/nbdkit-braid-plugin.so}")
fixtures=$here/../fixtures/md

skip() { echo "skipped: $*"; exit 77; }

for file in "$cli" "$plugin"; do [ -e "$file" ] || { echo "$file was not built" >&2; exit 1; }; done
for tool in nbdkit nbdcopy nbdinfo jq xz perl; do
    command -v "$tool" > /dev/null || skip "there is no $tool"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/braid-kernel.XXXXXX")
declare -A server_pid=() server_log=()
failures=0 cases=0 server_count=0

clean_up() {
    local status=$?
    [ -z "${server_pid[guest]:-}" ] || kill -TERM "${server_pid[guest]}" 2> /dev/null || true
    unset "server_pid[guest]"
    for name in "${!server_pid[@]}"; do kill -KILL "${server_pid[$name]}" 2> /dev/null || true; done
    wait
    rm -rf "$work"
    return $status
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Makes sure that the rig can be run, or skips.
need_rig() {
    [ "$EUID" = 0 ] || skip "the rig needs root"
    [ "$(uname -m)" = x86_64 ] || skip "the rig needs x86-64"
    "$here/rig/run" --prepare > "$work/prepare.log" 2>&1 ||
        { tail -n 5 "$work/prepare.log"; skip "the rig cannot be run here: $(tail -n 1 "$work/prepare.log")"; }
    ! grep "emulation instead" "$work/prepare.log" || emulated=1
    [ "${KERNEL_RIG_KIND:-}" != qemu ] || emulated=1
}

# Whether only a short part is asked for, as by ./dev test.
is_short() { [ -n "${BRAID_TEST_SHORT:-}" ]; }
# And that of what takes ten times as long here.
emulated=
is_short_here() { is_short && [ -n "$emulated" ]; }

# OPTION...: starts $work/guest in the rig, after guest_lib.sh; its output goes to $work/guest.log.
start_guest() {
    cat "$here/guest_lib.sh" "$work/guest" > "$work/guest_script"
    # Only what hangs is ended: a busy machine takes minutes for what is done here.
    "$here/rig/run" --timeout 1500 "$@" "$work/guest_script" > "$work/guest.log" 2>&1 &
    server_pid[guest]=$!
}

guest_runs() { kill -0 "${server_pid[guest]}" 2> /dev/null; }

end_guest() {    # waits for its end
    local status=0
    wait "${server_pid[guest]}" || status=$?
    unset "server_pid[guest]"
    [ "$status" = 0 ] || { fail_case "the guest ended with status $status"; tail -n 20 "$work/guest.log"; }
}

in_guest() { start_guest "$@"; end_guest; }

# WORD...: one case failed. The server's last words help.
fail_case() {
    failures=$((failures + 1))
    echo "FAILED: $*"
    if [ -n "${last_log:-}" ] && [ -s "$last_log" ]; then tail -n 8 "$last_log" | sed 's/^/    server: /'; fi
}

expect_equal() {    # WHAT WANTED FOUND
    cases=$((cases + 1))
    [ "$2" = "$3" ] || { fail_case "$1: wanted $2, found $3"; return 1; }
}

finish() {
    echo "$((cases - failures)) of $cases cases passed, $SECONDS s"
    [ "$failures" = 0 ]
}

# NAME ARGUMENT...: serves at $work/NAME.sock, with the control socket $work/NAME.ctl. False, if the
# server ends instead; its log is then in $last_log.
serve() { serve_with "$1" -U "$work/$1.sock" -- "${@:2}"; }

serve_with() {    # NAME NBDKIT-OPTION... -- ARGUMENT...
    local name=$1 options=(); shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    server_count=$((server_count + 1))
    last_log=$work/server$server_count.log
    local pid_file=$work/server$server_count.pid
    rm -f "$work/$name.sock" "$work/$name.ctl"
    nbdkit -f --exit-with-parent -P "$pid_file" "${options[@]}" "$plugin" "$@" socket="$work/$name.ctl" \
        > "$last_log" 2>&1 &
    local pid=$!
    for _ in {1..2400}; do
        if [ -s "$pid_file" ]; then
            server_pid[$name]=$pid server_log[$name]=$last_log
            return 0
        fi
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.025
    done
    kill -KILL "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
    return 1
}

stop() {    # NAME: a clean stop; false if the server did not end well
    local pid=${server_pid[$1]} status=0
    last_log=${server_log[$1]}
    unset "server_pid[$1]"
    kill -TERM "$pid"
    for _ in {1..2400}; do kill -0 "$pid" 2> /dev/null || break; sleep 0.025; done
    kill -KILL "$pid" 2> /dev/null && echo "the server did not stop within 60 s"
    wait "$pid" || status=$?
    [ "$status" = 0 ] || { cases=$((cases + 1)); fail_case "$1: the server's exit status at a clean stop: $status"; return 1; }
}

crash() {    # NAME: kill -9
    local pid=${server_pid[$1]}
    unset "server_pid[$1]"
    kill -KILL "$pid"
    wait "$pid" 2> /dev/null || true
}

uri() { echo "nbd+unix:///?socket=$work/$1.sock"; }
digest() { sha256sum | cut -d' ' -f1; }
served_digest() { nbdcopy "$(uri "$1")" - | digest; }
served_bytes() { nbdinfo --size "$(uri "$1")"; }

# SEED BYTES: a file with that content, made once; its path.
content_file() {
    local file=$work/content-$1-$2
    [ -e "$file" ] || "$here/row-content" "$1" "$2" > "$file"
    echo "$file"
}
content_digest() { digest < "$(content_file "$1" "$2")"; }

# NAME SEED: writes that content to all of what is served there, and flushes.
write_content() {
    local bytes; bytes=$(served_bytes "$1")
    nbdcopy --flush "$(content_file "$2" "$bytes")" "$(uri "$1")"
}

field() { jq -r "$2" "$fixtures/$1/fixture.json"; }    # FIXTURE JQ-PATH

# FIXTURE FOLDER: unpacks its members there.
unpack() {
    local packed
    mkdir -p "$2"
    for packed in "$fixtures/$1"/*.xz; do
        local file=$2/${packed##*/}
        xz -dc "$packed" > "${file%.xz}"
    done
}

# FOLDER: the members' state before and after something that must not touch them
members_digest() { cat "$1"/member*.img | digest; }

wait_idle() {    # NAME: until no rebuild, resync or scrub runs
    local status
    for _ in {1..300}; do
        status=$("$cli" status --json --socket "$work/$1.ctl") || return 1
        jq -e '.members | length > 0' <<< "$status" > /dev/null || return 1
        jq -e '[.tasks[]?, (.members[] | select(.state == "rebuilding"))] | length > 0' <<< "$status" > /dev/null || return 0
        sleep 0.1
    done
    return 1
}
