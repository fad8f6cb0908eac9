/* SPDX-License-Identifier: GPL-2.0 */
/* What flb.rs calls. */
#ifndef KPRESERVE_LUO_FLB_H
#define KPRESERVE_LUO_FLB_H

struct liveupdate_flb;
struct liveupdate_flb_ops;

struct liveupdate_flb *kpreserve_luo_new_flb(const struct liveupdate_flb_ops *ops,
					     const char *compatible, void *known);
void *kpreserve_luo_known_of_flb(struct liveupdate_flb *flb);
void kpreserve_luo_free_flb(struct liveupdate_flb *flb);

#endif
