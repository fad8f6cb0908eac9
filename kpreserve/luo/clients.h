/* SPDX-License-Identifier: GPL-2.0 */
/* What flb.rs and registration.rs call. */
#ifndef KPRESERVE_LUO_CLIENTS_H
#define KPRESERVE_LUO_CLIENTS_H

#include <linux/types.h>

struct liveupdate_file_handler;
struct liveupdate_flb;
struct liveupdate_flb_ops;
struct module;

struct liveupdate_flb *kpreserve_luo_new_flb(const struct liveupdate_flb_ops *ops,
					     const char *compatible, void *known);
void *kpreserve_luo_known_of_flb(struct liveupdate_flb *flb);
void kpreserve_luo_free_flb(struct liveupdate_flb *flb);
bool kpreserve_luo_is_finished(struct liveupdate_flb *flb);
void kpreserve_luo_set_finished(struct liveupdate_flb *flb);
bool kpreserve_luo_may_log(void);
bool kpreserve_luo_is_unused(struct module *owner, unsigned int nr_holds);
bool kpreserve_luo_is_coming(struct module *owner);
void kpreserve_luo_set_gone(struct liveupdate_file_handler *handler);
void kpreserve_luo_pin(struct module *owner);

#endif
