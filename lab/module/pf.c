// SPDX-License-Identifier: GPL-2.0
/*
 * A driver of physical functions that makes fewer virtual functions than it is
 * asked for, and says so, as one does whose resources are used up. A test
 * fixture; see README.md.
 */
#include <linux/module.h>
#include <linux/pci.h>

static unsigned int most = 3;
module_param(most, uint, 0644);
MODULE_PARM_DESC(most, "how many virtual functions are made at most");

static int labpf_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return pcim_enable_device(pdev);
}

static void labpf_remove(struct pci_dev *pdev)
{
	pci_disable_sriov(pdev);
}

/* The number that was made is the answer: sriov_numvfs_store() only warns. */
static int labpf_sriov_configure(struct pci_dev *pdev, int wanted)
{
	int made = min_t(int, wanted, READ_ONCE(most));
	int ret;

	if (!made) {
		pci_disable_sriov(pdev);
		return 0;
	}
	ret = pci_enable_sriov(pdev, made);
	return ret ? ret : made;
}

/* No ids: it takes what driver_override gives it. */
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
MODULE_DESCRIPTION("A physical function with fewer virtual ones than asked for (a test fixture)");
