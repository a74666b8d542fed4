// SPDX-License-Identifier: GPL-2.0
/*
 * Virtual functions that become vGPUs, as with NVIDIA's vendor-specific VFIO:
 * a variant of vfio-pci stays bound to them, a file in their sysfs directory
 * makes them vGPUs, and only then can a VMM open them. A test fixture for
 * devices other than NVIDIA's; see README.md.
 */
#include <linux/module.h>

#include "labvf.h"

static char *ids[8];
static unsigned int ids_nr;
module_param_array(ids, charp, &ids_nr, 0444);
MODULE_PARM_DESC(ids, "virtual functions to bind, such as 8086:10ca,1b36:0010");

static struct labvf *to_labvf(struct vfio_device *vdev)
{
	return container_of(vdev, struct labvf, core.vdev);
}

static int labvf_open(struct vfio_device *vdev)
{
	struct labvf *vf = to_labvf(vdev);
	int ret = labvf_opened(vf);

	if (ret)
		return ret;
	ret = vfio_pci_core_enable(&vf->core);
	if (ret) {
		labvf_closed(vf);
		return ret;
	}
	vfio_pci_core_finish_enable(&vf->core);
	return 0;
}

static void labvf_close(struct vfio_device *vdev)
{
	vfio_pci_core_close_device(vdev);
	labvf_closed(to_labvf(vdev));
}

static const struct vfio_device_ops labvf_ops = {
	.name = "labvf",
	.init = vfio_pci_core_init_dev,
	.release = vfio_pci_core_release_dev,
	.open_device = labvf_open,
	.close_device = labvf_close,
	.ioctl = vfio_pci_core_ioctl,
	.get_region_info_caps = vfio_pci_ioctl_get_region_info,
	.device_feature = vfio_pci_core_ioctl_feature,
	.read = vfio_pci_core_read,
	.write = vfio_pci_core_write,
	.mmap = vfio_pci_core_mmap,
	.request = vfio_pci_core_request,
	.match = vfio_pci_core_match,
	.match_token_uuid = vfio_pci_core_match_token_uuid,
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
};

static const struct vfio_pci_device_ops labvf_pci_ops = {
	.get_dmabuf_phys = vfio_pci_core_get_dmabuf_phys,
};

static int labvf_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct labvf *vf;
	int ret;

	/* A physical function can have the ids of its virtual functions (NVMe). */
	if (!pdev->is_virtfn)
		return -ENODEV;
	vf = vfio_alloc_device(labvf, core.vdev, &pdev->dev, &labvf_ops);
	if (IS_ERR(vf))
		return PTR_ERR(vf);
	ret = labvf_join(vf, pdev);
	if (ret)
		goto put;
	/* vfio_pci_core expects its device there. */
	dev_set_drvdata(&pdev->dev, &vf->core);
	vf->core.pci_ops = &labvf_pci_ops;
	ret = vfio_pci_core_register_device(&vf->core);
	if (ret)
		goto leave;
	return 0;

leave:
	labvf_leave(vf);
put:
	vfio_put_device(&vf->core.vdev);
	return ret;
}

/* Waits until the device is closed, like vfio-pci. */
static void labvf_remove(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);
	struct labvf *vf = container_of(core, struct labvf, core);

	vfio_pci_core_unregister_device(core);
	labvf_leave(vf);
	vfio_put_device(&core->vdev);
}

/*
 * No ids, and so no aliases: this module is never chosen as the best VFIO
 * driver of a function that is not in its parameter.
 */
static const struct pci_device_id labvf_ids[] = {
	{ }
};

static struct pci_driver labvf_driver = {
	.name = "labvf",
	.id_table = labvf_ids,
	.probe = labvf_probe,
	.remove = labvf_remove,
	.dev_groups = labvf_groups,
	.err_handler = &vfio_pci_core_err_handlers,
	.driver_managed_dma = true,
};

static int __init labvf_take_ids(void)
{
	unsigned int i, vendor, device;
	int ret;

	for (i = 0; i < ids_nr; i++) {
		if (sscanf(ids[i], "%x:%x", &vendor, &device) != 2)
			return -EINVAL;
		ret = pci_add_dynid(&labvf_driver, vendor, device, PCI_ANY_ID,
				    PCI_ANY_ID, 0, 0, 0);
		if (ret)
			return ret;
	}
	return 0;
}

static int __init labvf_init(void)
{
	int ret = pci_register_driver(&labvf_driver);

	if (ret)
		return ret;
	ret = labvf_take_ids();
	if (ret)
		pci_unregister_driver(&labvf_driver);
	return ret;
}
module_init(labvf_init);

static void __exit labvf_exit(void)
{
	pci_unregister_driver(&labvf_driver);
}
module_exit(labvf_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Virtual functions that become vGPUs (a test fixture)");
