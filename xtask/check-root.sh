#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Whether `make TARGET` can have the root that it needs; asked before xtask is built, which takes minutes. xtask asks again
# (src/host.rs), and says which packages are missing.
set -eu

target=$1
[ "$(id -u)" = 0 ] && exit 0
printf 'make %s: root is needed: the kernel is built and booted inside a Debian build root (debootstrap, mount, chroot)\n' \
	"$target" >&2
printf '  do: sudo -E make %s\n' "$target" >&2
case $target in
test) printf '  or: make test-host, the half that needs no root\n' >&2 ;;
bench) printf '  or: cargo run --release -p xtask -- bench --host, the half that needs no root\n' >&2 ;;
esac
exit 1
