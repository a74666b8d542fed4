// SPDX-License-Identifier: GPL-2.0
/* The node /dev/labgpuN: the start of BAR 0. An open node uses the GPU. */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>

#include "labgpu.h"

static int lab_open(struct inode *inode, struct file *file)
{
	struct miscdevice *node = file->private_data;
	struct lab_gpu *gpu = container_of(node, struct lab_gpu, node);

	guard(mutex)(&gpu->lock);
	if (gpu->gone)
		return -ENODEV;
	gpu->openers++;
	kref_get(&gpu->users);
	file->private_data = gpu;
	return 0;
}

static int lab_release(struct inode *inode, struct file *file)
{
	struct lab_gpu *gpu = file->private_data;

	mutex_lock(&gpu->lock);
	gpu->openers--;
	mutex_unlock(&gpu->lock);
	wake_up_all(&gpu->closed);
	lab_gpu_put(gpu);
	return 0;
}

/* One register at a time: four bytes, aligned. */
static ssize_t lab_access(struct lab_gpu *gpu, u32 *word, size_t count,
			  loff_t *at, bool write)
{
	if (*at < 0 || *at % sizeof(*word) || count < sizeof(*word))
		return -EINVAL;
	guard(mutex)(&gpu->lock);
	if (!gpu->bar)
		return -ENODEV;
	if (*at > gpu->space - sizeof(*word))
		return write ? -ENOSPC : 0;
	if (write)
		iowrite32(*word, gpu->bar + *at);
	else
		*word = ioread32(gpu->bar + *at);
	*at += sizeof(*word);
	return sizeof(*word);
}

static ssize_t lab_read(struct file *file, char __user *to, size_t count,
			loff_t *at)
{
	u32 word;
	ssize_t ret = lab_access(file->private_data, &word, count, at, false);

	if (ret > 0 && copy_to_user(to, &word, sizeof(word)))
		return -EFAULT;
	return ret;
}

static ssize_t lab_write(struct file *file, const char __user *from,
			 size_t count, loff_t *at)
{
	u32 word;

	if (count < sizeof(word))
		return -EINVAL;
	if (copy_from_user(&word, from, sizeof(word)))
		return -EFAULT;
	return lab_access(file->private_data, &word, count, at, true);
}

static loff_t lab_seek(struct file *file, loff_t offset, int whence)
{
	struct lab_gpu *gpu = file->private_data;

	return fixed_size_llseek(file, offset, whence, gpu->space);
}

static const struct file_operations lab_node_ops = {
	.owner = THIS_MODULE,
	.open = lab_open,
	.release = lab_release,
	.read = lab_read,
	.write = lab_write,
	.llseek = lab_seek,
};

int lab_node_add(struct lab_gpu *gpu)
{
	gpu->space = min_t(resource_size_t, pci_resource_len(gpu->pdev, 0), SZ_64K);
	snprintf(gpu->name, sizeof(gpu->name), "labgpu%d", gpu->number);
	gpu->node.minor = MISC_DYNAMIC_MINOR;
	gpu->node.name = gpu->name;
	gpu->node.fops = &lab_node_ops;
	gpu->node.parent = &gpu->pdev->dev;
	return misc_register(&gpu->node);
}
