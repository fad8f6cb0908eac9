// SPDX-License-Identifier: GPL-2.0
/*
 * LUO's structs are as bindings.rs has them, and so are the types of its
 * callbacks, which a kernel with CONFIG_CFI compares. No code.
 */

#include <linux/build_bug.h>
#include <linux/compiler_types.h>
#include <linux/liveupdate.h>
#include <linux/stddef.h>

/* Written as bindings.rs does, which host-tests/tests/luo_types.rs compares. */
#define PROTOTYPE(name, field, result, ...)				\
	static_assert(__same_type(((struct name *)0)->field,		\
				  result (*)(__VA_ARGS__)))

static_assert(sizeof(struct liveupdate_file_op_args) == 40);
static_assert(offsetof(struct liveupdate_file_op_args, handler) == 0);
static_assert(offsetof(struct liveupdate_file_op_args, retrieve_status) == 8);
static_assert(offsetof(struct liveupdate_file_op_args, file) == 16);
static_assert(offsetof(struct liveupdate_file_op_args, serialized_data) == 24);
static_assert(offsetof(struct liveupdate_file_op_args, private_data) == 32);

static_assert(sizeof(struct liveupdate_file_ops) == 80);
static_assert(offsetof(struct liveupdate_file_ops, can_preserve) == 0);
static_assert(offsetof(struct liveupdate_file_ops, preserve) == 8);
static_assert(offsetof(struct liveupdate_file_ops, unpreserve) == 16);
static_assert(offsetof(struct liveupdate_file_ops, freeze) == 24);
static_assert(offsetof(struct liveupdate_file_ops, unfreeze) == 32);
static_assert(offsetof(struct liveupdate_file_ops, retrieve) == 40);
static_assert(offsetof(struct liveupdate_file_ops, can_finish) == 48);
static_assert(offsetof(struct liveupdate_file_ops, finish) == 56);
static_assert(offsetof(struct liveupdate_file_ops, get_id) == 64);
static_assert(offsetof(struct liveupdate_file_ops, owner) == 72);

PROTOTYPE(liveupdate_file_ops, can_preserve, bool,
	  struct liveupdate_file_handler *, struct file *);
PROTOTYPE(liveupdate_file_ops, preserve, int, struct liveupdate_file_op_args *);
PROTOTYPE(liveupdate_file_ops, unpreserve, void, struct liveupdate_file_op_args *);
PROTOTYPE(liveupdate_file_ops, freeze, int, struct liveupdate_file_op_args *);
PROTOTYPE(liveupdate_file_ops, unfreeze, void, struct liveupdate_file_op_args *);
PROTOTYPE(liveupdate_file_ops, retrieve, int, struct liveupdate_file_op_args *);
PROTOTYPE(liveupdate_file_ops, can_finish, bool, struct liveupdate_file_op_args *);
PROTOTYPE(liveupdate_file_ops, finish, void, struct liveupdate_file_op_args *);
PROTOTYPE(liveupdate_file_ops, get_id, unsigned long, struct file *);

static_assert(LIVEUPDATE_HNDL_COMPAT_LENGTH == 48);
static_assert(sizeof(struct liveupdate_file_handler) == 88);
static_assert(offsetof(struct liveupdate_file_handler, ops) == 0);
static_assert(offsetof(struct liveupdate_file_handler, compatible) == 8);

static_assert(sizeof(struct liveupdate_flb_op_args) == 24);
static_assert(offsetof(struct liveupdate_flb_op_args, flb) == 0);
static_assert(offsetof(struct liveupdate_flb_op_args, data) == 8);
static_assert(offsetof(struct liveupdate_flb_op_args, obj) == 16);

static_assert(sizeof(struct liveupdate_flb_ops) == 40);
static_assert(offsetof(struct liveupdate_flb_ops, preserve) == 0);
static_assert(offsetof(struct liveupdate_flb_ops, unpreserve) == 8);
static_assert(offsetof(struct liveupdate_flb_ops, retrieve) == 16);
static_assert(offsetof(struct liveupdate_flb_ops, finish) == 24);
static_assert(offsetof(struct liveupdate_flb_ops, owner) == 32);
static_assert(LIVEUPDATE_FLB_COMPAT_LENGTH == 48);
/* Of any size: clients.c makes it. */
static_assert(sizeof(struct liveupdate_flb) > 0);

PROTOTYPE(liveupdate_flb_ops, preserve, int, struct liveupdate_flb_op_args *);
PROTOTYPE(liveupdate_flb_ops, unpreserve, void, struct liveupdate_flb_op_args *);
PROTOTYPE(liveupdate_flb_ops, retrieve, int, struct liveupdate_flb_op_args *);
PROTOTYPE(liveupdate_flb_ops, finish, void, struct liveupdate_flb_op_args *);
