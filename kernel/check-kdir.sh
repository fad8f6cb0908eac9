#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Whether KDIR is the build folder of a kernel that kpreserve's modules can be built for. If not, says what is wrong,
# where, what was expected, and what to do about it.
set -eu

fail() {
	printf 'make modules: %s\n' "$1" >&2
	shift
	printf '  %s\n' "$@" >&2
	exit 1
}

kdir=${1-}
usual="/lib/modules/$(uname -r)/build"
folder='the folder in which your kernel was built (its O= folder, or the source tree if it was built in place)'
[ -n "$kdir" ] || fail 'KDIR is not set' "expected: $folder" "do: make modules KDIR=$usual"
[ -d "$kdir" ] || fail "KDIR=$kdir is no folder" "expected: $folder" \
	"do: name another one, or install the headers of the running kernel to have $usual"
config=$kdir/include/config/auto.conf
if ! [ -f "$config" ]; then
	if [ -f "$kdir/Kbuild" ] && [ -d "$kdir/kernel" ]; then
		fail "KDIR=$kdir is a kernel source tree in which no kernel was built ($config is missing)" \
			"expected: $folder" 'do: name the O= folder, or configure and build the kernel there first'
	fi
	fail "KDIR=$kdir is not where a kernel was built ($config is missing)" "expected: $folder" \
		"do: name another one, usually $usual"
fi

# need OPTION WHY
need() {
	grep -q "^CONFIG_$1=y\$" "$config" && return
	fail "this kernel was built without CONFIG_$1 ($config)" "expected: CONFIG_$1=y, because $2" \
		'do: set it (scripts/config, make menuconfig), build that kernel anew, boot it, and try again;' \
		'    kernel/base.config has all options of the kernel that our tests boot'
}
need 64BIT 'preserved structures hold 64-bit addresses'
need MODULES 'kpreserve.ko is a module'
need RUST 'kpreserve is written in Rust'
need KEXEC_HANDOVER 'it is what carries memory over a kexec'

[ -f "$kdir/rust/libkernel.rmeta" ] || fail "KDIR=$kdir is configured, but $kdir/rust/libkernel.rmeta is missing" \
	'expected: a kernel that was built, or the headers of one with Rust' 'do: make -C KDIR, then try again'

# What clang was told to check in the kernel, gcc does not know (CONFIG_CFI).
if grep -q '^CONFIG_CC_IS_CLANG=y$' "$config" && [ -z "${LLVM-}${CC-}" ]; then
	fail "this kernel was built by clang (CONFIG_CC_IS_CLANG in $config)" \
		'expected: LLVM=1, or CC=...; without, gcc is taken' 'do: make modules KDIR=... LLVM=1'
fi

# Two releases of rustc do not read each other's crates.
built=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="*\([^"]*\)"*$/\1/p' "$config")
found=$("${RUSTC:-rustc}" --version 2>/dev/null) || found='no rustc at all'
[ "$found" = "$built" ] || fail "another rustc than the kernel's: ${RUSTC:-rustc} is $found" \
	"expected: $built (CONFIG_RUSTC_VERSION_TEXT in $config)" \
	'do: make modules KDIR=... RUSTC=/path/to/that/rustc'

case $(cat "$kdir/include/config/kernel.release") in
7.3*|7.2*) ;;
*) printf 'make modules: note: kpreserve is written for Linux 7.3 (KHO ABI kho-v4), this is %s\n' \
	"$(cat "$kdir/include/config/kernel.release")" >&2 ;;
esac
