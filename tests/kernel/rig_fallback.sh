#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Goal: where User Mode Linux cannot run (processors with AMX), the rig goes on with QEMU by itself,
# finds that out once, and says so; with neither the tests are skipped, with the reason.
# Method: a rig of its own whose kernel is a program that dies as Debian 12's does there, and a
# QEMU that does not start.
. "$(dirname "$0")/lib.sh"
need_rig

real=$("$here/rig/run" --where)
export KERNEL_RIG_CACHE=$work/cache
mkdir "$KERNEL_RIG_CACHE"
fake=$KERNEL_RIG_CACHE/${real##*/}
cp -al "$real" "$fake" 2> /dev/null || { rm -rf "$fake"; cp -a "$real" "$fake"; }
rm -f "$fake"/uml-* "$fake"/qemu-* "$fake/linux"
tries=$work/tries
cat > "$fake/linux" <<EOT
#!/bin/bash
echo try >> "$tries"
echo "Core dump limits :"
echo "ptrace set fp regs failed, errno = 14"
kill -ABRT \$\$
EOT
chmod 755 "$fake/linux"

tried() { wc -l < "$tries"; }
echo 'echo "in the guest: $(uname -m), $(nproc) processors"; exit 7' > "$work/script"

: > "$tries"
runs=(first second)
! is_short || runs=(first)  # each takes a minute or two, as QEMU emulates everything
for run in "${runs[@]}"; do
    status=0
    "$here/rig/run" "$work/script" > "$work/$run.out" 2> "$work/$run.err" || status=$?
    expect_equal "$run run: status of the script" 7 "$status" || cat "$work/$run.err"
    expect_equal "$run run: what it printed" "in the guest: x86_64, 2 processors" "$(< "$work/$run.out")" || true
    expect_equal "$run run: says so" 1 "$(grep -c "does not come up .*ptrace set fp regs failed, errno = 14.* QEMU" "$work/$run.err")" || true
    expect_equal "$run run: tries of User Mode Linux so far" 1 "$(tried)" || true
done

# Neither.
mkdir "$work/bin"
printf '#!/bin/bash\necho "qemu: cannot be run"; exit 1\n' > "$work/bin/qemu-system-x86_64"
chmod 755 "$work/bin/qemu-system-x86_64"
rm -f "$fake"/qemu-*
status=0
PATH=$work/bin:$PATH "$here/rig/run" --prepare > "$work/neither" 2>&1 || status=$?
expect_equal "neither: status" 125 "$status" || true
expect_equal "neither: says why" 1 "$(grep -c "no kernel comes up here: User Mode Linux: ptrace set fp regs failed" "$work/neither")" || cat "$work/neither"
status=0
PATH=$work/bin:$PATH BRAID_CLI=$cli BRAID_PLUGIN=$plugin "$here/in_use_refused.sh" > "$work/skipped" 2>&1 || status=$?
expect_equal "neither: a test is skipped" 77 "$status" || cat "$work/skipped"
expect_equal "neither: with the reason" 1 "$(grep -c "^skipped: the rig cannot be run here: .*ptrace set fp regs failed" "$work/skipped")" || cat "$work/skipped"
# What makes fixtures goes the same way: it tries QEMU, and makes nothing with neither.
status=0
PATH=$work/bin:$PATH "$here/make-md-fixtures" -o "$work/made" raid1 > "$work/unmade" 2>&1 || status=$?
expect_equal "neither: no fixture is made" 125 "$status" || cat "$work/unmade"
expect_equal "neither: it tried QEMU" 1 "$(grep -c "does not come up .* QEMU" "$work/unmade")" || cat "$work/unmade"
expect_equal "neither: it says why" 1 "$(grep -c "no kernel comes up here: User Mode Linux: ptrace set fp regs failed" "$work/unmade")" || cat "$work/unmade"
expect_equal "neither: nothing is left" "" "$(ls "$work/made" 2> /dev/null || true)" || true
finish
