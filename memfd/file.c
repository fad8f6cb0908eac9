// SPDX-License-Identifier: GPL-2.0
/*
 * A memfd as a file, for shmem.rs: whose it is, what user space sees of it beside
 * the contents, and one that is made anew.
 */

#include <linux/cred.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/memcontrol.h>
#include <linux/memfd.h>
#include <linux/moduleparam.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/shmem_fs.h>
#include <uapi/linux/memfd.h>

#include "shmem.h"

/* Bits of f_flags that fcntl(F_SETFL) can set. */
#define KPRESERVE_MEMFD_FLAGS	(O_APPEND | O_NONBLOCK | O_NDELAY | O_DIRECT | \
				 O_NOATIME)

/* The seals that user space can see today; more come with a new format. */
#define KPRESERVE_MEMFD_SEALS	(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | \
				 F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | \
				 F_SEAL_EXEC)

static bool kpreserve_memfd_enabled = true;
module_param_named(memfd, kpreserve_memfd_enabled, bool, 0644);
MODULE_PARM_DESC(memfd, "Preserve memfds, before mainline's handler is asked (files that are preserved already stay with who has them)");

bool kpreserve_memfd_is_ours(struct file *file)
{
	return READ_ONCE(kpreserve_memfd_enabled) && shmem_file(file) &&
	       !file_inode(file)->i_nlink;
}

unsigned long kpreserve_memfd_id(struct file *file)
{
	return (unsigned long)file_inode(file);
}

void kpreserve_memfd_lock(struct file *file)
{
	inode_lock(file_inode(file));
}

void kpreserve_memfd_unlock(struct file *file)
{
	inode_unlock(file_inode(file));
}

void kpreserve_memfd_freeze(struct file *file, bool freeze)
{
	shmem_freeze(file_inode(file), freeze);
}

int kpreserve_memfd_look(struct file *file,
			 struct kpreserve_memfd_attributes *attributes)
{
	struct inode *inode = file_inode(file);
	struct timespec64 mtime = inode_get_mtime(inode);
	int seals = memfd_get_seals(file);

	if (seals < 0)
		return seals;
	if (seals & ~KPRESERVE_MEMFD_SEALS)
		return -EOPNOTSUPP;
	*attributes = (struct kpreserve_memfd_attributes) {
		.size_bytes = i_size_read(inode),
		.pos = file->f_pos,
		.mtime_ns = timespec64_to_ns(&mtime),
		.seals = seals,
		.flags = file->f_flags & (KPRESERVE_MEMFD_FLAGS | O_ACCMODE),
		.uid = from_kuid(&init_user_ns, inode->i_uid),
		.gid = from_kgid(&init_user_ns, inode->i_gid),
		.mode = inode->i_mode & 07777,
	};
	return 0;
}

int kpreserve_memfd_deny_writable(struct file *file)
{
	return mapping_deny_writable(file->f_mapping);
}

void kpreserve_memfd_allow_writable(struct file *file)
{
	mapping_allow_writable(file->f_mapping);
}

/*
 * Whether nobody can put a page into a hole who is kept from writing. iommufd
 * looks at no seals: it fills holes of what it is to map, and a device writes.
 */
bool kpreserve_memfd_can_keep_holes(void)
{
	return !IS_ENABLED(CONFIG_IOMMUFD);
}

static int kpreserve_memfd_try_create(const struct kpreserve_memfd_attributes *attributes,
				      kuid_t uid, kgid_t gid, struct file **filep)
{
	u32 access = attributes->flags & O_ACCMODE;
	struct file *file, *again;
	struct inode *inode;
	int err;

	/* What memfd_create(2) puts before each name. */
	file = memfd_alloc_file("memfd:", MFD_ALLOW_SEALING);
	if (IS_ERR(file))
		return PTR_ERR(file);
	inode = file_inode(file);
	/* Before the seals: F_SEAL_EXEC means more for what can be executed. */
	inode->i_mode = (inode->i_mode & ~07777) | (attributes->mode & 07777);
	inode->i_uid = uid;
	inode->i_gid = gid;
	/* Before the contents: it looks at each page. */
	err = memfd_add_seals(file, attributes->seals);
	if (err) {
		fput(file);
		return err;
	}
	i_size_write(inode, attributes->size_bytes);
	/* Only a file that was opened can do O_DIRECT. */
	if (access != O_RDWR || attributes->flags & O_DIRECT) {
		again = dentry_open(&file->f_path, access | O_LARGEFILE,
				    current_cred());
		fput(file);
		if (IS_ERR(again))
			return PTR_ERR(again);
		file = again;
	}
	*filep = file;
	return 0;
}

/*
 * All that making a file can fail of, while its contents are untouched. If
 * there is no room for it in the control group, the file (not what it holds) is
 * the root's: LUO does not ask twice.
 */
int kpreserve_memfd_create(const struct kpreserve_memfd_attributes *attributes,
			   struct file **filep)
{
	struct mem_cgroup *group;
	kuid_t uid;
	kgid_t gid;
	int err;

	if (attributes->seals & ~KPRESERVE_MEMFD_SEALS)
		return -EOPNOTSUPP;
	uid = make_kuid(&init_user_ns, attributes->uid);
	gid = make_kgid(&init_user_ns, attributes->gid);
	if (!uid_valid(uid) || !gid_valid(gid))
		return -EINVAL;
	err = kpreserve_memfd_try_create(attributes, uid, gid, filep);
	/* ENOSPC is what shmem says if there is no memory for an inode. */
	if (err != -ENOMEM && err != -ENOSPC)
		return err;
	group = set_active_memcg(root_mem_cgroup);
	err = kpreserve_memfd_try_create(attributes, uid, gid, filep);
	set_active_memcg(group);
	return err;
}

/* The last touch: what writing the contents would have changed, and how it was opened. */
void kpreserve_memfd_finish_open(struct file *file,
				 const struct kpreserve_memfd_attributes *attributes)
{
	inode_set_mtime_to_ts(file_inode(file),
			      ns_to_timespec64(attributes->mtime_ns));
	spin_lock(&file->f_lock);
	file->f_flags |= attributes->flags & KPRESERVE_MEMFD_FLAGS;
	/* What reading and writing look at. */
	file->f_iocb_flags = iocb_flags(file);
	spin_unlock(&file->f_lock);
	vfs_setpos(file, attributes->pos, MAX_LFS_FILESIZE);
}
