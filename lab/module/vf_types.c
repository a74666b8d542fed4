// SPDX-License-Identifier: GPL-2.0
/*
 * The vGPU types of a virtual function: the files in nvidia/ in its sysfs
 * directory, and the memory of the physical function, which all its virtual
 * functions share.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "labvf.h"

static unsigned int megabytes = 8192;
module_param(megabytes, uint, 0644);
MODULE_PARM_DESC(megabytes, "memory of a physical function for its vGPUs, in MiB");

static bool heterogeneous;
module_param(heterogeneous, bool, 0644);
MODULE_PARM_DESC(heterogeneous, "vGPUs of one physical function can differ in size");

static bool name_first;
module_param(name_first, bool, 0644);
MODULE_PARM_DESC(name_first, "the table of types has names first, ids last and no header");

static unsigned int create_delay_ms;
module_param(create_delay_ms, uint, 0644);
MODULE_PARM_DESC(create_delay_ms, "delay of creating a vGPU, in ms");

static unsigned int release_delay_ms;
module_param(release_delay_ms, uint, 0644);
MODULE_PARM_DESC(release_delay_ms, "how long a vGPU cannot be freed after it was created or closed, in ms");

static const struct labvf_type labvf_types[] = {
	{ 1155, 1024, "NVIDIA L40S-1Q" },
	{ 1156, 2048, "NVIDIA L40S-2Q" },
	{ 1157, 4096, "NVIDIA L40S-4Q" },
	{ 1158, 8192, "NVIDIA L40S-8Q" },
};

static LIST_HEAD(labvf_pfs);
static DEFINE_MUTEX(labvf_pfs_lock);

/* Reads the memory size when the first function is bound. */
static struct labvf_pf *labvf_pf_new(struct pci_dev *pdev)
{
	struct labvf_pf *pf = kzalloc(sizeof(*pf), GFP_KERNEL);

	if (!pf)
		return NULL;
	mutex_init(&pf->lock);
	pf->pdev = pci_dev_get(pdev);
	pf->megabytes_left = megabytes;
	list_add(&pf->entry, &labvf_pfs);
	return pf;
}

static struct labvf_pf *labvf_pf_of(struct pci_dev *pdev)
{
	struct labvf_pf *pf;

	list_for_each_entry(pf, &labvf_pfs, entry)
		if (pf->pdev == pdev)
			return pf;
	return labvf_pf_new(pdev);
}

int labvf_join(struct labvf *vf, struct pci_dev *pdev)
{
	guard(mutex)(&labvf_pfs_lock);
	vf->pf = labvf_pf_of(pci_physfn(pdev));
	if (!vf->pf)
		return -ENOMEM;
	vf->pf->functions++;
	return 0;
}

/* Returns the memory; call it with the lock held. */
static void labvf_free(struct labvf *vf)
{
	if (!vf->type)
		return;
	vf->pf->megabytes_left += vf->type->megabytes;
	vf->pf->vgpus--;
	vf->type = NULL;
}

/* Frees the vGPU of a function that loses its driver. */
void labvf_leave(struct labvf *vf)
{
	struct labvf_pf *pf = vf->pf;

	mutex_lock(&pf->lock);
	labvf_free(vf);
	mutex_unlock(&pf->lock);
	guard(mutex)(&labvf_pfs_lock);
	if (--pf->functions)
		return;
	list_del(&pf->entry);
	pci_dev_put(pf->pdev);
	mutex_destroy(&pf->lock);
	kfree(pf);
}

static void labvf_keep_busy(struct labvf *vf)
{
	vf->busy_until = ktime_add_ms(ktime_get(), release_delay_ms);
}

int labvf_opened(struct labvf *vf)
{
	guard(mutex)(&vf->pf->lock);
	if (!vf->type)
		return -ENODEV;
	vf->open = true;
	return 0;
}

void labvf_closed(struct labvf *vf)
{
	guard(mutex)(&vf->pf->lock);
	vf->open = false;
	labvf_keep_busy(vf);
}

static bool labvf_creatable(struct labvf_pf *pf, const struct labvf_type *type)
{
	return type->megabytes <= pf->megabytes_left &&
	       (heterogeneous || !pf->vgpus ||
		type->megabytes == pf->megabytes_each);
}

static const struct labvf_type *labvf_type_of(unsigned int id)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(labvf_types); i++)
		if (labvf_types[i].id == id)
			return &labvf_types[i];
	return NULL;
}

static int labvf_create(struct labvf *vf, unsigned int id)
{
	const struct labvf_type *type = labvf_type_of(id);
	struct labvf_pf *pf = vf->pf;

	if (!type)
		return -EINVAL;
	msleep(create_delay_ms);
	guard(mutex)(&pf->lock);
	if (vf->type)
		return -EBUSY;
	if (!labvf_creatable(pf, type))
		return -ENOSPC;
	if (!pf->vgpus++)
		pf->megabytes_each = type->megabytes;
	pf->megabytes_left -= type->megabytes;
	vf->type = type;
	labvf_keep_busy(vf);
	return 0;
}

static int labvf_destroy(struct labvf *vf)
{
	guard(mutex)(&vf->pf->lock);
	if (vf->type && (vf->open || ktime_before(ktime_get(), vf->busy_until)))
		return -EBUSY;
	labvf_free(vf);
	return 0;
}

static struct labvf *labvf_of(struct device *dev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(dev);

	return container_of(core, struct labvf, core);
}

static ssize_t current_vgpu_type_show(struct device *dev,
				      struct device_attribute *attr, char *buf)
{
	struct labvf *vf = labvf_of(dev);

	guard(mutex)(&vf->pf->lock);
	return sysfs_emit(buf, "%u\n", vf->type ? vf->type->id : 0);
}

static ssize_t current_vgpu_type_store(struct device *dev,
				       struct device_attribute *attr,
				       const char *buf, size_t count)
{
	struct labvf *vf = labvf_of(dev);
	unsigned int id;
	int ret = kstrtouint(buf, 10, &id);

	if (!ret)
		ret = id ? labvf_create(vf, id) : labvf_destroy(vf);
	return ret ? ret : count;
}
static DEVICE_ATTR_RW(current_vgpu_type);

/* Empty for a function that is a vGPU. */
static ssize_t creatable_vgpu_types_show(struct device *dev,
					 struct device_attribute *attr,
					 char *buf)
{
	struct labvf *vf = labvf_of(dev);
	const struct labvf_type *type = labvf_types;
	int at = 0;

	if (!name_first)
		at = sysfs_emit(buf, "ID    : vGPU Name\n");
	guard(mutex)(&vf->pf->lock);
	for (; type < labvf_types + ARRAY_SIZE(labvf_types); type++) {
		if (vf->type || !labvf_creatable(vf->pf, type))
			continue;
		if (name_first)
			at += sysfs_emit_at(buf, at, "%-32s %u\n", type->name, type->id);
		else
			at += sysfs_emit_at(buf, at, "%-5u : %s\n", type->id, type->name);
	}
	return at;
}
static DEVICE_ATTR_RO(creatable_vgpu_types);

static struct attribute *labvf_attrs[] = {
	&dev_attr_current_vgpu_type.attr,
	&dev_attr_creatable_vgpu_types.attr,
	NULL
};

static const struct attribute_group labvf_group = {
	.name = "nvidia",
	.attrs = labvf_attrs,
};

const struct attribute_group *labvf_groups[] = { &labvf_group, NULL };
