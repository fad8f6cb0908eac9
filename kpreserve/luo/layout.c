// SPDX-License-Identifier: GPL-2.0
/* LUO's structs are as bindings.rs has them. No code. */

#include <linux/build_bug.h>
#include <linux/liveupdate.h>
#include <linux/notifier.h>
#include <linux/stddef.h>

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

static_assert(sizeof(struct notifier_block) == 24);
static_assert(offsetof(struct notifier_block, notifier_call) == 0);
static_assert(offsetof(struct notifier_block, next) == 8);
static_assert(offsetof(struct notifier_block, priority) == 16);
