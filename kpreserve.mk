# SPDX-License-Identifier: GPL-2.0
#
# What a consumer of kpreserve includes in its Kbuild:
#
#   include $(KPRESERVE)/kpreserve.mk
#   obj-m := my_consumer.o
#
# KPRESERVE is the absolute path of the kpreserve tree; KPRESERVE_OBJ, where its objects were built
# (the same place; of a kernel with kpreserve in it, drivers/kpreserve in the build folder).

KPRESERVE_OBJ ?= $(KPRESERVE)

# Looked at when something is compiled, not by `make clean`. In a kernel tree make gets there by itself.
kpreserve-built := $(wildcard $(KPRESERVE_OBJ)/kpreserve/libkpreserve.rmeta)
kpreserve-check = $(if $(KBUILD_EXTMOD),$(if $(kpreserve-built),,$(error kpreserve was not built in \
	KPRESERVE=$(KPRESERVE) ($(KPRESERVE_OBJ)/kpreserve/libkpreserve.rmeta is missing); it has to be an \
	absolute path, of a tree in which `make modules KDIR=...` has run for the same kernel)))

# The compiler notes the metadata as an input of each object: what was built against older sources is
# built again.
rustflags-y += $(kpreserve-check)-L $(KPRESERVE_OBJ)/kho -L $(KPRESERVE_OBJ)/slab \
	       -L $(KPRESERVE_OBJ)/vmalloc -L $(KPRESERVE_OBJ)/kpreserve --extern kpreserve

KBUILD_EXTRA_SYMBOLS += $(wildcard $(KPRESERVE_OBJ)/Module.symvers)
