// SPDX-License-Identifier: GPL-2.0
/* Mediated devices: a header and 4 KiB of memory behind BAR 0, no DMA, no interrupts. */
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <linux/vfio.h>

#include "labgpu.h"

#define VGPU_CONFIG	256
#define VGPU_BAR	SZ_4K
#define VGPU_SHIFT	40
#define VGPU_OFFSET(region)	((u64)(region) << VGPU_SHIFT)

static bool mdev;
module_param(mdev, bool, 0644);
MODULE_PARM_DESC(mdev, "GPUs that are probed from now on offer mediated devices");

static ushort mdev_ids[16];
static unsigned int mdev_ids_nr;
module_param_array(mdev_ids, ushort, &mdev_ids_nr, 0644);
MODULE_PARM_DESC(mdev_ids, "device ids of GPUs that offer them regardless of mdev");

struct lab_vgpu {
	struct vfio_device vdev;
	struct mutex lock;		/* of config and memory */
	u8 config[VGPU_CONFIG];
	u8 memory[VGPU_BAR];
};

/* Writable for the guest: command, the BAR's address, the interrupt line. */
static const u8 vgpu_writable[VGPU_CONFIG] = {
	[PCI_COMMAND] = 0xff,
	[PCI_BASE_ADDRESS_0 + 1] = (u8)~((VGPU_BAR - 1) >> 8),
	[PCI_BASE_ADDRESS_0 + 2] = 0xff,
	[PCI_BASE_ADDRESS_0 + 3] = 0xff,
	[PCI_INTERRUPT_LINE] = 0xff,
};

static struct lab_vgpu *to_vgpu(struct vfio_device *vdev)
{
	return container_of(vdev, struct lab_vgpu, vdev);
}

static struct lab_type *to_type(struct mdev_type *type)
{
	return container_of(type, struct lab_type, type);
}

static void vgpu_reset(struct lab_vgpu *vgpu)
{
	guard(mutex)(&vgpu->lock);
	memset(vgpu->memory, 0, sizeof(vgpu->memory));
	memset(vgpu->config + PCI_COMMAND, 0, 2);
	memset(vgpu->config + PCI_BASE_ADDRESS_0, 0, 4);
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

static size_t vgpu_size(u64 region)
{
	return region == VFIO_PCI_CONFIG_REGION_INDEX ? VGPU_CONFIG :
	       region == VFIO_PCI_BAR0_REGION_INDEX ? VGPU_BAR : 0;
}

/*
 * The bytes of a region from an offset on, or NULL. *count becomes their
 * number, *writable their masks, or NULL if all can be written.
 */
static u8 *vgpu_bytes(struct lab_vgpu *vgpu, loff_t offset, size_t *count,
		      const u8 **writable)
{
	u64 at = offset & (VGPU_OFFSET(1) - 1);
	u64 region = (u64)offset >> VGPU_SHIFT;
	size_t size = vgpu_size(region);

	if (at >= size)
		return NULL;
	*count = min_t(u64, *count, size - at);
	if (region == VFIO_PCI_BAR0_REGION_INDEX) {
		*writable = NULL;
		return vgpu->memory + at;
	}
	*writable = vgpu_writable + at;
	return vgpu->config + at;
}

static ssize_t vgpu_read(struct vfio_device *vdev, char __user *to,
			 size_t count, loff_t *offset)
{
	struct lab_vgpu *vgpu = to_vgpu(vdev);
	const u8 *writable;
	u8 *bytes = vgpu_bytes(vgpu, *offset, &count, &writable);

	if (!bytes)
		return -EINVAL;
	guard(mutex)(&vgpu->lock);
	if (copy_to_user(to, bytes, count))
		return -EFAULT;
	*offset += count;
	return count;
}

static ssize_t vgpu_write(struct vfio_device *vdev, const char __user *from,
			  size_t count, loff_t *offset)
{
	struct lab_vgpu *vgpu = to_vgpu(vdev);
	const u8 *writable;
	u8 *bytes = vgpu_bytes(vgpu, *offset, &count, &writable);
	u8 copy[8];		/* QEMU writes at most 8 bytes at once */
	size_t i;

	if (!bytes)
		return -EINVAL;
	count = min(count, sizeof(copy));
	if (copy_from_user(copy, from, count))
		return -EFAULT;
	guard(mutex)(&vgpu->lock);
	for (i = 0; i < count; i++) {
		u8 mask = writable ? writable[i] : 0xff;

		bytes[i] = (bytes[i] & ~mask) | (copy[i] & mask);
	}
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
	info->size = vgpu_size(info->index);
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

/* Has no interrupts: the requests for them return ENOTTY. */
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
	guard(mutex)(&gpu->lock);
	if (megabytes > gpu->megabytes_left)
		return -ENOSPC;
	gpu->megabytes_left -= megabytes;
	return 0;
}

static void vgpu_return_memory(struct lab_gpu *gpu, unsigned int megabytes)
{
	guard(mutex)(&gpu->lock);
	gpu->megabytes_left += megabytes;
}

static int vgpu_probe(struct mdev_device *mdev)
{
	struct lab_gpu *gpu = dev_get_drvdata(mdev->dev.parent);
	unsigned int megabytes = to_type(mdev->type)->megabytes;
	struct lab_vgpu *vgpu;
	int ret = vgpu_take(gpu, megabytes);

	if (ret)
		return ret;
	vgpu = vfio_alloc_device(lab_vgpu, vdev, &mdev->dev, &vgpu_ops);
	if (IS_ERR(vgpu)) {
		ret = PTR_ERR(vgpu);
		goto return_memory;
	}
	dev_set_drvdata(&mdev->dev, vgpu);
	ret = vfio_register_emulated_iommu_dev(&vgpu->vdev);
	if (!ret)
		return 0;
	vfio_put_device(&vgpu->vdev);
return_memory:
	vgpu_return_memory(gpu, megabytes);
	return ret;
}

static void vgpu_remove(struct mdev_device *mdev)
{
	struct lab_vgpu *vgpu = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&vgpu->vdev);
	vgpu_return_memory(dev_get_drvdata(mdev->dev.parent),
		       to_type(mdev->type)->megabytes);
	vfio_put_device(&vgpu->vdev);
}

static unsigned int vgpu_available(struct mdev_type *type)
{
	struct lab_gpu *gpu = dev_get_drvdata(type->parent->dev);

	return READ_ONCE(gpu->megabytes_left) / to_type(type)->megabytes;
}

static ssize_t vgpu_description(struct mdev_type *type, char *buf)
{
	unsigned int megabytes = to_type(type)->megabytes;

	return sysfs_emit(buf, "num_heads=1, frl_config=60, framebuffer=%uM, max_resolution=4096x2160, max_instance=%u\n",
			  megabytes, LAB_MEMORY_MB / megabytes);
}

struct mdev_driver lab_vgpu_driver = {
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

/* Registers the types if the parameters ask for it. */
int lab_vgpus_offer(struct lab_gpu *gpu)
{
	static const struct lab_type types[] = {
		{ { .sysfs_name = "474", .pretty_name = "LAB GPU-4C" }, 4096 },
		{ { .sysfs_name = "475", .pretty_name = "LAB GPU-8C" }, 8192 },
		{ { .sysfs_name = "476", .pretty_name = "LAB GPU-16C" }, 16384 },
	};
	unsigned int i;

	if (!lab_offers_vgpus(gpu->pdev))
		return 0;
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		gpu->types[i] = types[i];
		gpu->type_list[i] = &gpu->types[i].type;
	}
	return mdev_register_parent(&gpu->parent, &gpu->pdev->dev, &lab_vgpu_driver,
				    gpu->type_list, ARRAY_SIZE(types));
}

void lab_vgpus_withdraw(struct lab_gpu *gpu)
{
	if (gpu->parent.dev)
		mdev_unregister_parent(&gpu->parent);
}
