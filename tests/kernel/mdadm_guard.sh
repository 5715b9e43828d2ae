#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Goal: mdadm, asked for a bitmap or a partial parity log of any size, does not write over braid's
# areas; and where it did (arrays of before the log lay in front of them), braid does not make one
# volume of two.
# Method: members so large that a bitmap of the smallest chunks is larger than the room in front of
# the areas. A real md runs the array, mdadm adds and removes bitmaps and a log; every member's bytes
# from the configuration to the data must be the same. The same with the log declared just before
# the data, as it was once: there mdadm writes over the slots, which shows that the test can fail.
. "$(dirname "$0")/lib.sh"
need_rig

share=$work/share
mkdir "$share"
cp "$here/row-content" "$share/"
slots=143360 slots_end=274432 data_offset=$((4 << 20))

# FILE: declares md's log just before the data, with the checksum that goes with it.
declare_log_at_the_end() {
    perl -e '
        my ($path, $offset) = @ARGV;
        open(my $file, "+<:raw", $path) or die; seek($file, 4096, 0); read($file, my $sb, 512) == 512 or die;
        substr($sb, 188, 4) = pack("l<", ($offset - 8192) / 512);
        substr($sb, 216, 4) = pack("V", 0);
        my $sum = 0; $sum += $_ for unpack("V128", $sb);
        substr($sb, 216, 4) = pack("V", (($sum & 0xffffffff) + ($sum >> 32)) & 0xffffffff);
        seek($file, 4096, 0); print $file $sb; close($file) or die;
    ' "$1" "$data_offset"
}

for name in now before; do
    mkdir "$share/$name"
    "$cli" create --level 5 --size 6G --volume one:1G --volume two:2G "$share/$name"/member{0,1,2}.img \
        > "$work/create.log" 2>&1 || { fail_case "$name: create: $(tail -n 1 "$work/create.log")"; finish; }
done
for file in "$share"/before/*.img; do declare_log_at_the_end "$file"; done

cat > "$work/guest" <<'EOF2'
ours() {    # the bytes of all members from the slots to the data
    sync
    for file in member*.img; do dd if="$file" bs=4096 skip=35 count=989 status=none; done | sha256sum | cut -d' ' -f1
}
for name in now before; do
    cd "/share/$name" || exit 1
    attach member*.img || exit 1
    before=$(ours)
    mdadm --assemble /dev/md0 "${devices[@]}" && say "$name assembled yes"
    for chunk in 4K 8K 64K 64M; do
        mdadm --grow --bitmap=internal --bitmap-chunk=$chunk /dev/md0 && say "$name bitmap-$chunk taken"
        dd if=/dev/urandom of=/dev/md0 bs=64K count=16 oflag=direct conv=fsync status=none
        say "$name same-$chunk $([ "$before" = "$(ours)" ] && echo yes || echo no)"
        mdadm --grow --bitmap=none /dev/md0
    done
    mdadm --grow --consistency-policy=ppl /dev/md0 && say "$name ppl taken"
    say "$name same-ppl $([ "$before" = "$(ours)" ] && echo yes || echo no)"
    mdadm --grow --consistency-policy=resync /dev/md0
    dd if=/dev/md0 bs=64K count=16 iflag=direct status=none | sha256sum | cut -d' ' -f1 > /tmp/sum
    say "$name content $(< /tmp/sum)"
    detach
done
true
EOF2
: > "$share/results"
in_guest --share "$share"
result() { sed -n "s/^$1 $2 //p" "$share/results"; }
for name in now before; do
    expect_equal "$name: md assembles it" yes "$(result $name assembled)" || { cat "$work/guest.log"; finish; }
done

for what in 4K 8K 64K 64M ppl; do
    expect_equal "areas after $what" yes "$(result now same-$what)" || true
done
expect_equal "the bitmap of usual size is taken" taken "$(result now bitmap-64M)" || true
expect_equal "with the log behind them mdadm wrote over the areas" no "$(result before same-4K)" || true
[ "$failures" = 0 ] || { cat "$share/results"; cat "$work/guest.log"; }

served_volumes() { "$cli" status --json --socket "$work/$1.ctl" | jq -r '[.volumes[].name] | join(" ")'; }
cases=$((cases + 1))
if serve now "$share"/now/*.img; then
    expect_equal "volumes after md" "one two" "$(served_volumes now)" || true
    expect_equal "content after md" "$(result now content)" \
        "$({ nbdcopy "nbd+unix:///one?socket=$work/now.sock" - 2> /dev/null || true; } | head -c 1M | digest)" || true
    stop now || true
else
    fail_case "not served after md: $(tail -n 2 "$last_log")"
fi

# The way out that braid tells, taken on all members: nobody knows the volumes, and that is said.
for file in "$share"/before/*.img; do
    dd if=/dev/zero of="$file" bs=4096 seek=$((slots / 4096)) count=$(((slots_end - slots) / 4096)) conv=notrunc status=none
done
cases=$((cases + 1))
if serve before "$share"/before/*.img; then
    fail_case "before: served as: $(served_volumes before)"
    stop before || true
else
    grep -q "which alone says what volumes it holds" "$last_log" || fail_case "before: refused for another reason"
fi
finish
