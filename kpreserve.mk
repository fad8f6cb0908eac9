# SPDX-License-Identifier: GPL-2.0
#
# What a consumer of kpreserve includes in its Kbuild:
#
#   include $(KPRESERVE)/kpreserve.mk
#   obj-m := my_consumer.o
#
# KPRESERVE is the absolute path of the kpreserve tree; KPRESERVE_OBJ, where its objects were built
# (the same place, unless kpreserve is built into the kernel).

KPRESERVE_OBJ ?= $(KPRESERVE)

rustflags-y += -L $(KPRESERVE_OBJ)/kho -L $(KPRESERVE_OBJ)/slab -L $(KPRESERVE_OBJ)/vmalloc \
	       -L $(KPRESERVE_OBJ)/kpreserve --extern kpreserve

# The metadata is an input that the compiler's dependency files do not name.
$(obj)/%.o: $(KPRESERVE_OBJ)/kpreserve/libkpreserve.rmeta

KBUILD_EXTRA_SYMBOLS += $(wildcard $(KPRESERVE_OBJ)/Module.symvers)
