// SPDX-License-Identifier: GPL-2.0
/*
 * The memory of a function as a graphics driver shows it: nodes in /dev/dri,
 * and a region of the dmem cgroup controller that accounts allocations through
 * them. A test fixture that does not access the hardware. See README.md.
 */
#include <linux/cgroup_dmem.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

static char *function;
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "the address of the function, such as 0000:02:00.0");

static unsigned int megabytes = 64;
module_param(megabytes, uint, 0444);
MODULE_PARM_DESC(megabytes, "the size of its memory, in MiB");

static const char *const names[] = { "card0", "renderD128" };

static struct dmem_cgroup_region *region;
static struct pci_dev *pdev;
static struct class *class;
static int major;

/* The allocation of one opener. */
struct taken {
	struct mutex lock;
	struct dmem_cgroup_pool_state *pool;
	u64 bytes;
};

static int labdmem_open(struct inode *inode, struct file *file)
{
	struct taken *taken = kzalloc(sizeof(*taken), GFP_KERNEL);

	if (!taken)
		return -ENOMEM;
	mutex_init(&taken->lock);
	file->private_data = taken;
	return 0;
}

static int labdmem_release(struct inode *inode, struct file *file)
{
	struct taken *taken = file->private_data;

	if (taken->pool)
		dmem_cgroup_uncharge(taken->pool, taken->bytes);
	kfree(taken);
	return 0;
}

/* Allocates a number of bytes, once per opener; closing frees them. */
static ssize_t labdmem_write(struct file *file, const char __user *from,
			     size_t count, loff_t *at)
{
	struct taken *taken = file->private_data;
	u64 bytes;
	int ret = kstrtou64_from_user(from, count, 0, &bytes);

	if (ret)
		return ret;
	guard(mutex)(&taken->lock);
	if (taken->pool)
		return -EBUSY;
	ret = dmem_cgroup_try_charge(region, bytes, &taken->pool, NULL);
	if (ret)
		return ret;
	taken->bytes = bytes;
	return count;
}

static const struct file_operations labdmem_ops = {
	.owner = THIS_MODULE,
	.open = labdmem_open,
	.release = labdmem_release,
	.write = labdmem_write,
};

static char *labdmem_devnode(const struct device *dev, umode_t *mode)
{
	if (mode)
		*mode = 0666;
	return kasprintf(GFP_KERNEL, "dri/%s", dev_name(dev));
}

static void labdmem_remove_nodes(void)
{
	unsigned int i;

	if (IS_ERR_OR_NULL(class))
		return;
	for (i = 0; i < ARRAY_SIZE(names); i++)
		device_destroy(class, MKDEV(major, i));
	class_destroy(class);
	unregister_chrdev(major, "labdmem");
}

/* No nodes if the kernel has real graphics drivers, which own the class. */
static int labdmem_add_nodes(void)
{
	struct device *dev;
	unsigned int i;

	class = class_create("drm");
	if (IS_ERR(class))
		return PTR_ERR(class) == -EEXIST ? 0 : PTR_ERR(class);
	class->devnode = labdmem_devnode;
	major = register_chrdev(0, "labdmem", &labdmem_ops);
	if (major < 0) {
		class_destroy(class);
		return major;
	}
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		dev = device_create(class, &pdev->dev, MKDEV(major, i), NULL,
				    "%s", names[i]);
		if (IS_ERR(dev)) {
			labdmem_remove_nodes();
			return PTR_ERR(dev);
		}
	}
	return 0;
}

static struct pci_dev *labdmem_find(void)
{
	unsigned int domain, bus, slot, func;

	if (!function || sscanf(function, "%x:%x:%x.%x", &domain, &bus, &slot,
				&func) != 4)
		return NULL;
	return pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
}

static int __init labdmem_init(void)
{
	struct dmem_cgroup_init init = { .size = (u64)megabytes << 20 };
	int ret;

	pdev = labdmem_find();
	if (!pdev)
		return -ENODEV;
	/* Named like those of amdgpu and xe. NULL without the controller. */
	region = dmem_cgroup_register_region(&init, "drm/%s/vram0", pci_name(pdev));
	if (IS_ERR(region)) {
		pci_dev_put(pdev);
		return PTR_ERR(region);
	}
	ret = labdmem_add_nodes();
	if (ret) {
		dmem_cgroup_unregister_region(region);
		pci_dev_put(pdev);
	}
	return ret;
}
module_init(labdmem_init);

static void __exit labdmem_exit(void)
{
	labdmem_remove_nodes();
	dmem_cgroup_unregister_region(region);
	pci_dev_put(pdev);
}
module_exit(labdmem_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A region of device memory, and nodes for allocating it (a test fixture)");
