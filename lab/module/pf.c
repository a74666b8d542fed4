// SPDX-License-Identifier: GPL-2.0
/*
 * A driver of physical functions that creates fewer virtual functions than
 * requested, and returns their number, like a driver without enough resources.
 * A test fixture; see README.md.
 */
#include <linux/module.h>
#include <linux/pci.h>

static unsigned int most = 3;
module_param(most, uint, 0644);
MODULE_PARM_DESC(most, "the largest number of virtual functions");

static int labpf_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return pcim_enable_device(pdev);
}

static void labpf_remove(struct pci_dev *pdev)
{
	pci_disable_sriov(pdev);
}

/* Returns the number of functions: sriov_numvfs_store() only warns. */
static int labpf_sriov_configure(struct pci_dev *pdev, int wanted)
{
	int count = min_t(int, wanted, READ_ONCE(most));
	int ret;

	if (!count) {
		pci_disable_sriov(pdev);
		return 0;
	}
	ret = pci_enable_sriov(pdev, count);
	return ret ? ret : count;
}

/* No ids: it binds only by driver_override. */
static const struct pci_device_id labpf_ids[] = {
	{ }
};

static struct pci_driver labpf_driver = {
	.name = "labpf",
	.id_table = labpf_ids,
	.probe = labpf_probe,
	.remove = labpf_remove,
	.sriov_configure = labpf_sriov_configure,
};
module_pci_driver(labpf_driver);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Creates fewer virtual functions than requested (a test fixture)");
