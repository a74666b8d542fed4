// SPDX-License-Identifier: GPL-2.0
/*
 * Native drivers for the lab's emulated GPU and its audio function: a test
 * fixture. They give a device something to be taken from and given back to,
 * and show the ways in which real drivers are difficult: slow to let go, held
 * by a process, unwilling to come back, carrying mediated devices. See README.md.
 */
#include <linux/delay.h>
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/kref.h>
#include <linux/mdev.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <linux/vfio.h>
#include <linux/wait.h>

#define LAB_VENDOR	0x10de
#define LAB_SPACE	SZ_64K		/* of BAR 0, reached by the node */
#define LAB_MEMORY_MB	16384		/* shared out to vGPUs */

static unsigned int unbind_delay_ms;
module_param(unbind_delay_ms, uint, 0644);
MODULE_PARM_DESC(unbind_delay_ms, "how long letting go of a GPU takes");

static bool held;
module_param(held, bool, 0644);
MODULE_PARM_DESC(held, "letting go of a GPU waits until nobody has its node open");

static bool probe_fail;
module_param(probe_fail, bool, 0644);
MODULE_PARM_DESC(probe_fail, "GPUs and audio functions are not taken");

static bool mdev;
module_param(mdev, bool, 0644);
MODULE_PARM_DESC(mdev, "GPUs that are taken from now on offer mediated devices");

static ushort mdev_ids[16];
static unsigned int mdev_ids_nr;
module_param_array(mdev_ids, ushort, &mdev_ids_nr, 0644);
MODULE_PARM_DESC(mdev_ids, "device ids of GPUs that do, whatever mdev says");

struct lab_type {
	struct mdev_type type;
	unsigned int megabytes;
};

struct lab_gpu {
	struct kref users;		/* the driver, and each open node */
	struct mutex lock;		/* of what follows, down to bar */
	bool gone;
	unsigned int openers;
	unsigned int megabytes_left;
	void __iomem *bar;		/* NULL once the driver let go */
	resource_size_t space;
	wait_queue_head_t closed;
	atomic_t interrupts;
	int number;
	char name[16];
	struct miscdevice node;
	struct pci_dev *pdev;
	bool is_parent;
	struct mdev_parent parent;
	struct lab_type types[3];
	struct mdev_type *type_list[3];
};

static DEFINE_IDA(lab_numbers);

static void lab_gpu_free(struct kref *users)
{
	struct lab_gpu *gpu = container_of(users, struct lab_gpu, users);

	ida_free(&lab_numbers, gpu->number);
	mutex_destroy(&gpu->lock);
	kfree(gpu);
}

/* --- the node: /dev/labgpuN is the start of BAR 0 ------------------------- */

static int lab_open(struct inode *inode, struct file *file)
{
	struct miscdevice *node = file->private_data;
	struct lab_gpu *gpu = container_of(node, struct lab_gpu, node);
	int ret = 0;

	mutex_lock(&gpu->lock);
	if (gpu->gone) {
		ret = -ENODEV;
	} else {
		gpu->openers++;
		kref_get(&gpu->users);
		file->private_data = gpu;
	}
	mutex_unlock(&gpu->lock);
	return ret;
}

static int lab_release(struct inode *inode, struct file *file)
{
	struct lab_gpu *gpu = file->private_data;

	mutex_lock(&gpu->lock);
	gpu->openers--;
	mutex_unlock(&gpu->lock);
	wake_up_all(&gpu->closed);
	kref_put(&gpu->users, lab_gpu_free);
	return 0;
}

/* One register at a time: four bytes, aligned. */
static ssize_t lab_access(struct lab_gpu *gpu, u32 *word, size_t count,
			  loff_t *at, bool write)
{
	ssize_t ret = sizeof(*word);

	if (*at < 0 || *at % sizeof(*word) || count < sizeof(*word))
		return -EINVAL;
	mutex_lock(&gpu->lock);
	if (!gpu->bar)
		ret = -ENODEV;
	else if (*at > gpu->space - sizeof(*word))
		ret = write ? -ENOSPC : 0;
	else if (write)
		iowrite32(*word, gpu->bar + *at);
	else
		*word = ioread32(gpu->bar + *at);
	mutex_unlock(&gpu->lock);
	if (ret > 0)
		*at += ret;
	return ret;
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

/* --- interrupts: counted, and shown in sysfs ------------------------------ */

static irqreturn_t lab_interrupt(int irq, void *data)
{
	struct lab_gpu *gpu = data;

	atomic_inc(&gpu->interrupts);
	return IRQ_HANDLED;
}

static ssize_t interrupts_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	struct lab_gpu *gpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%d\n", atomic_read(&gpu->interrupts));
}
static DEVICE_ATTR_RO(interrupts);

static struct attribute *lab_attrs[] = { &dev_attr_interrupts.attr, NULL };
ATTRIBUTE_GROUPS(lab);

/* A GPU without a message interrupt works too: its count stays 0. */
static void lab_interrupts_on(struct lab_gpu *gpu)
{
	struct pci_dev *pdev = gpu->pdev;

	if (pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI) != 1)
		return;
	if (request_irq(pci_irq_vector(pdev, 0), lab_interrupt, 0, gpu->name, gpu))
		pci_free_irq_vectors(pdev);
}

static void lab_interrupts_off(struct lab_gpu *gpu)
{
	if (!gpu->pdev->msi_enabled)
		return;
	free_irq(pci_irq_vector(gpu->pdev, 0), gpu);
	pci_free_irq_vectors(gpu->pdev);
}

/* --- mediated devices: a header, 4 KiB of memory behind BAR 0, no DMA ----- */

#define VGPU_CONFIG	256
#define VGPU_BAR	SZ_4K
#define VGPU_SHIFT	40
#define VGPU_OFFSET(region)	((u64)(region) << VGPU_SHIFT)

struct lab_vgpu {
	struct vfio_device vdev;
	struct lab_gpu *gpu;
	unsigned int megabytes;
	struct mutex lock;		/* of config and memory */
	u8 config[VGPU_CONFIG];
	u8 memory[VGPU_BAR];
};

static struct lab_vgpu *to_vgpu(struct vfio_device *vdev)
{
	return container_of(vdev, struct lab_vgpu, vdev);
}

static void vgpu_reset(struct lab_vgpu *vgpu)
{
	mutex_lock(&vgpu->lock);
	memset(vgpu->memory, 0, sizeof(vgpu->memory));
	memset(vgpu->config + PCI_COMMAND, 0, 2);
	memset(vgpu->config + PCI_BASE_ADDRESS_0, 0, 4);
	mutex_unlock(&vgpu->lock);
}

static int vgpu_init(struct vfio_device *vdev)
{
	struct lab_vgpu *vgpu = to_vgpu(vdev);
	struct lab_gpu *gpu = dev_get_drvdata(vdev->dev->parent);

	mutex_init(&vgpu->lock);
	put_unaligned_le16(LAB_VENDOR, vgpu->config + PCI_VENDOR_ID);
	put_unaligned_le16(gpu->pdev->device, vgpu->config + PCI_DEVICE_ID);
	put_unaligned_le16(PCI_CLASS_DISPLAY_3D, vgpu->config + PCI_CLASS_DEVICE);
	put_unaligned_le16(LAB_VENDOR, vgpu->config + PCI_SUBSYSTEM_VENDOR_ID);
	vgpu->config[PCI_REVISION_ID] = gpu->pdev->revision;
	return 0;
}

static void vgpu_release(struct vfio_device *vdev)
{
	mutex_destroy(&to_vgpu(vdev)->lock);
}

static int vgpu_open(struct vfio_device *vdev)
{
	vgpu_reset(to_vgpu(vdev));
	return 0;
}

/* What the guest may change: command, the BAR's address, the line register. */
static void vgpu_config_write(struct lab_vgpu *vgpu, size_t at, u8 value)
{
	if (at == PCI_COMMAND || at == PCI_INTERRUPT_LINE)
		vgpu->config[at] = value;
	else if (at == PCI_BASE_ADDRESS_0 + 1)
		vgpu->config[at] = value & ~(u8)((VGPU_BAR - 1) >> 8);
	else if (at == PCI_BASE_ADDRESS_0 + 2 || at == PCI_BASE_ADDRESS_0 + 3)
		vgpu->config[at] = value;
}

/* The bytes of a region from an offset on, or none. *count becomes their number. */
static u8 *vgpu_bytes(struct lab_vgpu *vgpu, loff_t offset, size_t *count,
		      bool *config)
{
	u64 at = offset & (VGPU_OFFSET(1) - 1);
	u64 region = (u64)offset >> VGPU_SHIFT;
	u64 size = region == VFIO_PCI_CONFIG_REGION_INDEX ? VGPU_CONFIG :
		   region == VFIO_PCI_BAR0_REGION_INDEX ? VGPU_BAR : 0;

	if (offset < 0 || at >= size)
		return NULL;
	*count = min_t(u64, *count, size - at);
	*config = region == VFIO_PCI_CONFIG_REGION_INDEX;
	return (*config ? vgpu->config : vgpu->memory) + at;
}

static ssize_t vgpu_read(struct vfio_device *vdev, char __user *to,
			 size_t count, loff_t *offset)
{
	struct lab_vgpu *vgpu = to_vgpu(vdev);
	bool config;
	u8 *bytes = vgpu_bytes(vgpu, *offset, &count, &config);
	unsigned long left;

	if (!bytes)
		return -EINVAL;
	mutex_lock(&vgpu->lock);
	left = copy_to_user(to, bytes, count);
	mutex_unlock(&vgpu->lock);
	if (left)
		return -EFAULT;
	*offset += count;
	return count;
}

static ssize_t vgpu_write(struct vfio_device *vdev, const char __user *from,
			  size_t count, loff_t *offset)
{
	struct lab_vgpu *vgpu = to_vgpu(vdev);
	bool config;
	u8 *bytes = vgpu_bytes(vgpu, *offset, &count, &config);
	u8 copy[8];		/* QEMU writes no more at once */
	size_t i;

	if (!bytes)
		return -EINVAL;
	count = min(count, sizeof(copy));
	if (copy_from_user(copy, from, count))
		return -EFAULT;
	mutex_lock(&vgpu->lock);
	for (i = 0; i < count; i++) {
		if (config)
			vgpu_config_write(vgpu, bytes - vgpu->config + i, copy[i]);
		else
			bytes[i] = copy[i];
	}
	mutex_unlock(&vgpu->lock);
	*offset += count;
	return count;
}

static int vgpu_region_info(struct vfio_device *vdev,
			    struct vfio_region_info *info,
			    struct vfio_info_cap *caps)
{
	if (info->index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info->offset = VGPU_OFFSET(info->index);
	info->size = info->index == VFIO_PCI_CONFIG_REGION_INDEX ? VGPU_CONFIG :
		     info->index == VFIO_PCI_BAR0_REGION_INDEX ? VGPU_BAR : 0;
	info->flags = info->size ?
		VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
	return 0;
}

static long vgpu_device_info(void __user *arg)
{
	struct vfio_device_info info;
	size_t size = offsetofend(struct vfio_device_info, num_irqs);

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

/* No interrupts: asked for them, it says that it has none. */
static long vgpu_ioctl(struct vfio_device *vdev, unsigned int cmd,
		       unsigned long arg)
{
	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return vgpu_device_info((void __user *)arg);
	case VFIO_DEVICE_RESET:
		vgpu_reset(to_vgpu(vdev));
		return 0;
	default:
		return -ENOTTY;
	}
}

static const struct vfio_device_ops vgpu_ops = {
	.name = "labvgpu",
	.init = vgpu_init,
	.release = vgpu_release,
	.open_device = vgpu_open,
	.read = vgpu_read,
	.write = vgpu_write,
	.ioctl = vgpu_ioctl,
	.get_region_info_caps = vgpu_region_info,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

static int vgpu_take(struct lab_gpu *gpu, unsigned int megabytes)
{
	int ret = -ENOSPC;

	mutex_lock(&gpu->lock);
	if (megabytes <= gpu->megabytes_left) {
		gpu->megabytes_left -= megabytes;
		ret = 0;
	}
	mutex_unlock(&gpu->lock);
	return ret;
}

static void vgpu_give_back(struct lab_gpu *gpu, unsigned int megabytes)
{
	mutex_lock(&gpu->lock);
	gpu->megabytes_left += megabytes;
	mutex_unlock(&gpu->lock);
}

static int vgpu_probe(struct mdev_device *mdev)
{
	struct lab_gpu *gpu = dev_get_drvdata(mdev->dev.parent);
	struct lab_type *type = container_of(mdev->type, struct lab_type, type);
	struct lab_vgpu *vgpu;
	int ret = vgpu_take(gpu, type->megabytes);

	if (ret)
		return ret;
	vgpu = vfio_alloc_device(lab_vgpu, vdev, &mdev->dev, &vgpu_ops);
	if (IS_ERR(vgpu)) {
		vgpu_give_back(gpu, type->megabytes);
		return PTR_ERR(vgpu);
	}
	vgpu->gpu = gpu;
	vgpu->megabytes = type->megabytes;
	dev_set_drvdata(&mdev->dev, vgpu);
	ret = vfio_register_emulated_iommu_dev(&vgpu->vdev);
	if (ret) {
		vgpu_give_back(gpu, type->megabytes);
		vfio_put_device(&vgpu->vdev);
	}
	return ret;
}

static void vgpu_remove(struct mdev_device *mdev)
{
	struct lab_vgpu *vgpu = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&vgpu->vdev);
	vgpu_give_back(vgpu->gpu, vgpu->megabytes);
	vfio_put_device(&vgpu->vdev);
}

static unsigned int vgpu_available(struct mdev_type *mtype)
{
	struct lab_type *type = container_of(mtype, struct lab_type, type);
	struct lab_gpu *gpu = dev_get_drvdata(mtype->parent->dev);

	return READ_ONCE(gpu->megabytes_left) / type->megabytes;
}

static ssize_t vgpu_description(struct mdev_type *mtype, char *buf)
{
	struct lab_type *type = container_of(mtype, struct lab_type, type);

	return sysfs_emit(buf, "num_heads=1, frl_config=60, framebuffer=%uM, max_resolution=4096x2160, max_instance=%u\n",
			  type->megabytes, LAB_MEMORY_MB / type->megabytes);
}

static struct mdev_driver vgpu_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.probe = vgpu_probe,
	.remove = vgpu_remove,
	.get_available = vgpu_available,
	.show_description = vgpu_description,
	.driver = {
		.name = "labvgpu",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
	},
};

static bool lab_offers_vgpus(struct pci_dev *pdev)
{
	unsigned int i;

	for (i = 0; i < mdev_ids_nr; i++)
		if (mdev_ids[i] == pdev->device)
			return true;
	return mdev;
}

static int lab_register_parent(struct lab_gpu *gpu)
{
	static const struct lab_type types[] = {
		{ { .sysfs_name = "474", .pretty_name = "LAB GPU-4C" }, 4096 },
		{ { .sysfs_name = "475", .pretty_name = "LAB GPU-8C" }, 8192 },
		{ { .sysfs_name = "476", .pretty_name = "LAB GPU-16C" }, 16384 },
	};
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		gpu->types[i] = types[i];
		gpu->type_list[i] = &gpu->types[i].type;
	}
	ret = mdev_register_parent(&gpu->parent, &gpu->pdev->dev, &vgpu_driver,
				   gpu->type_list, ARRAY_SIZE(types));
	gpu->is_parent = !ret;
	return ret;
}

/* --- the PCI drivers ------------------------------------------------------ */

/* Memory is enabled, BAR 0 mapped, and somebody answers behind it. */
static void __iomem *lab_take(struct pci_dev *pdev)
{
	void __iomem *bar;
	int ret;

	if (probe_fail)
		return ERR_PTR(-EIO);
	ret = pcim_enable_device(pdev);
	if (ret)
		return ERR_PTR(ret);
	bar = pcim_iomap_region(pdev, 0, pci_name(pdev));
	if (IS_ERR(bar))
		return bar;
	if (PCI_POSSIBLE_ERROR(ioread32(bar)))
		return dev_err_ptr_probe(&pdev->dev, -ENODEV, "does not answer\n");
	return bar;
}

static struct lab_gpu *lab_gpu_new(struct pci_dev *pdev, void __iomem *bar)
{
	struct lab_gpu *gpu = kzalloc(sizeof(*gpu), GFP_KERNEL);

	if (!gpu)
		return ERR_PTR(-ENOMEM);
	gpu->number = ida_alloc(&lab_numbers, GFP_KERNEL);
	if (gpu->number < 0) {
		int ret = gpu->number;

		kfree(gpu);
		return ERR_PTR(ret);
	}
	kref_init(&gpu->users);
	mutex_init(&gpu->lock);
	init_waitqueue_head(&gpu->closed);
	gpu->pdev = pdev;
	gpu->bar = bar;
	gpu->space = min_t(resource_size_t, pci_resource_len(pdev, 0), LAB_SPACE);
	gpu->megabytes_left = LAB_MEMORY_MB;
	snprintf(gpu->name, sizeof(gpu->name), "labgpu%d", gpu->number);
	gpu->node.minor = MISC_DYNAMIC_MINOR;
	gpu->node.name = gpu->name;
	gpu->node.fops = &lab_node_ops;
	gpu->node.parent = &pdev->dev;
	return gpu;
}

static int lab_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	void __iomem *bar = lab_take(pdev);
	struct lab_gpu *gpu;
	int ret;

	if (IS_ERR(bar))
		return PTR_ERR(bar);
	gpu = lab_gpu_new(pdev, bar);
	if (IS_ERR(gpu))
		return PTR_ERR(gpu);
	pci_set_drvdata(pdev, gpu);
	pci_set_master(pdev);
	lab_interrupts_on(gpu);
	ret = misc_register(&gpu->node);
	if (ret)
		goto off;
	if (lab_offers_vgpus(pdev))
		ret = lab_register_parent(gpu);
	if (!ret) {
		pci_info(pdev, "%s: id register %#010x\n", gpu->name, ioread32(bar));
		return 0;
	}
	misc_deregister(&gpu->node);
off:
	lab_interrupts_off(gpu);
	mutex_lock(&gpu->lock);
	gpu->gone = true;
	gpu->bar = NULL;
	mutex_unlock(&gpu->lock);
	kref_put(&gpu->users, lab_gpu_free);
	return ret;
}

/*
 * Waits for the last opener, as NVIDIA's driver does: no signal ends it. What
 * does, unlike there, is to clear the parameter, so that a test can clean up.
 */
static void lab_wait_for_openers(struct lab_gpu *gpu)
{
	while (READ_ONCE(held) && READ_ONCE(gpu->openers))
		wait_event_timeout(gpu->closed, !READ_ONCE(gpu->openers), HZ / 10);
}

static void lab_remove(struct pci_dev *pdev)
{
	struct lab_gpu *gpu = pci_get_drvdata(pdev);

	mutex_lock(&gpu->lock);
	gpu->gone = true;
	mutex_unlock(&gpu->lock);
	msleep(unbind_delay_ms);
	lab_wait_for_openers(gpu);
	if (gpu->is_parent)
		mdev_unregister_parent(&gpu->parent);
	misc_deregister(&gpu->node);
	lab_interrupts_off(gpu);
	mutex_lock(&gpu->lock);
	gpu->bar = NULL;	/* pcim unmaps it after us */
	mutex_unlock(&gpu->lock);
	kref_put(&gpu->users, lab_gpu_free);
}

static int lab_audio_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return PTR_ERR_OR_ZERO(lab_take(pdev));
}

#define LAB_CLASS(code, mask) \
	.vendor = LAB_VENDOR, .device = PCI_ANY_ID, .subvendor = PCI_ANY_ID, \
	.subdevice = PCI_ANY_ID, .class = (code), .class_mask = (mask)

static const struct pci_device_id lab_gpu_ids[] = {
	{ LAB_CLASS(PCI_BASE_CLASS_DISPLAY << 16, 0xff0000) },
	{ }
};
MODULE_DEVICE_TABLE(pci, lab_gpu_ids);

static const struct pci_device_id lab_audio_ids[] = {
	{ LAB_CLASS(PCI_CLASS_MULTIMEDIA_HD_AUDIO << 8, 0xffff00) },
	{ }
};
MODULE_DEVICE_TABLE(pci, lab_audio_ids);

static struct pci_driver lab_gpu_driver = {
	.name = "labgpu",
	.id_table = lab_gpu_ids,
	.probe = lab_probe,
	.remove = lab_remove,
	.dev_groups = lab_groups,
};

static struct pci_driver lab_audio_driver = {
	.name = "labaudio",
	.id_table = lab_audio_ids,
	.probe = lab_audio_probe,
};

static int __init lab_init(void)
{
	int ret = mdev_register_driver(&vgpu_driver);

	if (ret)
		return ret;
	ret = pci_register_driver(&lab_gpu_driver);
	if (ret)
		goto no_gpu;
	ret = pci_register_driver(&lab_audio_driver);
	if (ret)
		goto no_audio;
	return 0;

no_audio:
	pci_unregister_driver(&lab_gpu_driver);
no_gpu:
	mdev_unregister_driver(&vgpu_driver);
	return ret;
}
module_init(lab_init);

static void __exit lab_exit(void)
{
	pci_unregister_driver(&lab_audio_driver);
	pci_unregister_driver(&lab_gpu_driver);
	mdev_unregister_driver(&vgpu_driver);
	ida_destroy(&lab_numbers);
}
module_exit(lab_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Native drivers for the lab's emulated GPU (a test fixture)");
