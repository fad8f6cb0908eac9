# SPDX-License-Identifier: GPL-2.0
#
# For people. The kernel's build system reads Kbuild instead. The work is done by xtask/.

XTASK := cargo run -q --release -p xtask --

# These run a build root, and say so before minutes of building.
AS_ROOT := demo test test-vm bench check

.PHONY: help demo test test-host test-vm tsan bench check modules clean

help:
	@echo 'make demo       the main job: hand real data over two kexecs in a virtual machine'
	@echo 'make test       all tests; make test-host and make test-vm run one half'
	@echo 'make tsan       threads on the host under the thread sanitizer (takes a nightly compiler with rust-src; not part of make test)'
	@echo 'make bench      measure, on the host against other allocators and in the virtual machine; results in target/bench/'
	@echo 'make check      rustfmt, clippy, rustdoc, on the host and with the kernel'
	@echo 'make modules KDIR=DIR   kpreserve.ko and the sample for your own kernel tree (7.3, CONFIG_RUST, CONFIG_KEXEC_HANDOVER)'
	@echo 'cargo run -rp xtask -- vm my.toml   your own scenario, with your own module, in a virtual machine (Documentation/testing.rst)'
	@echo 'make clean      remove what was built in this checkout (cargo xtask clean --cache: the shared cache, too)'
	@echo ''
	@echo 'KPRESERVE_CACHE=DIR   where build root and kernel are kept, a folder for this alone (default: kpreserve in your cache directory)'
	@echo 'KPRESERVE_SERIES=7.2  another kernel series; KPRESERVE_ACCEL=tcg|kvm|auto; KPRESERVE_MIRROR=URL for debootstrap'
	@echo 'KPRESERVE_TIMEOUT_SCALE=3  longer time limits on a slow machine'
	@echo 'KPRESERVE_WITHOUT=cfi  do without a kernel, or several (cfi,debug); what is left out counts as failed'

demo test test-host test-vm tsan bench check clean:
	@$(if $(filter $@,$(AS_ROOT)),xtask/check-root.sh $@)
	@$(XTASK) $@

# A consumer's folder has a Kbuild of its own and is built after kpreserve.ko.
CONSUMERS := $(patsubst %/Kbuild,%,$(wildcard samples/kv/Kbuild selftests/kmod/Kbuild))

modules:
	@kernel/check-kdir.sh '$(KDIR)'
	$(MAKE) -C $(KDIR) M=$(CURDIR) KPRESERVE=$(CURDIR) modules
	$(foreach consumer,$(CONSUMERS),$(MAKE) -C $(KDIR) M=$(CURDIR)/$(consumer) KPRESERVE=$(CURDIR) modules &&) true
