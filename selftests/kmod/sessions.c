// SPDX-License-Identifier: GPL-2.0
/*
 * Has LUO look at what the previous kernel left, as it does when user space opens
 * its device: at a moment that user space cannot choose, while a module comes
 * up. For luo.rs.
 */

#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fs.h>

#include "helpers.h"

int selftest_look_at_sessions(void)
{
	struct file *device = filp_open("/dev/liveupdate", O_RDWR, 0);

	if (IS_ERR(device))
		return PTR_ERR(device);
	return filp_close(device, NULL);
}
