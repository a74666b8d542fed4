// SPDX-License-Identifier: GPL-2.0
/*
 * Native drivers for the lab's emulated GPU and its audio function: a test
 * fixture. Handover unbinds and rebinds them, and they can show the problems
 * of real drivers: a slow unbind, an unbind that waits for a process, a probe
 * that fails, mediated devices. See README.md.
 */
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/module.h>

#include "labgpu.h"

static unsigned int unbind_delay_ms;
module_param(unbind_delay_ms, uint, 0644);
MODULE_PARM_DESC(unbind_delay_ms, "delay of an unbind of a GPU, in ms");

static bool held;
module_param(held, bool, 0644);
MODULE_PARM_DESC(held, "an unbind of a GPU waits until its node is closed");

static bool probe_fail;
module_param(probe_fail, bool, 0644);
MODULE_PARM_DESC(probe_fail, "probes of GPUs and audio functions fail with EIO");

/* Enables memory, maps BAR 0, and checks that the device answers. */
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
		return dev_err_ptr_probe(&pdev->dev, -ENODEV, "the device does not answer\n");
	return bar;
}

/* Drops the driver's reference; pcim unmaps the BAR afterwards. */
static void lab_gpu_drop(struct lab_gpu *gpu)
{
	mutex_lock(&gpu->lock);
	gpu->gone = true;
	gpu->bar = NULL;
	mutex_unlock(&gpu->lock);
	lab_gpu_put(gpu);
}

/* /proc/interrupts counts them. */
static irqreturn_t lab_interrupt(int irq, void *data)
{
	return IRQ_HANDLED;
}

/* Optional: a GPU also works without a message interrupt. */
static void lab_interrupts_on(struct pci_dev *pdev)
{
	if (pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI) == 1 &&
	    devm_request_irq(&pdev->dev, pci_irq_vector(pdev, 0), lab_interrupt,
			     0, "labgpu", pdev))
		pci_free_irq_vectors(pdev);
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
	lab_interrupts_on(pdev);
	ret = lab_node_add(gpu);
	if (ret)
		goto drop;
	ret = lab_vgpus_offer(gpu);
	if (ret)
		goto no_vgpus;
	pci_info(pdev, "%s: id register %#010x\n", gpu->name, ioread32(bar));
	return 0;

no_vgpus:
	misc_deregister(&gpu->node);
drop:
	lab_gpu_drop(gpu);
	return ret;
}

/*
 * Waits for the last opener, like NVIDIA's driver: no signal interrupts it.
 * Unlike there, clearing the parameter ends it, so that a test can clean up.
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
	lab_vgpus_withdraw(gpu);
	misc_deregister(&gpu->node);
	lab_gpu_drop(gpu);
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
};

static struct pci_driver lab_audio_driver = {
	.name = "labaudio",
	.id_table = lab_audio_ids,
	.probe = lab_audio_probe,
};

static int __init lab_init(void)
{
	int ret = mdev_register_driver(&lab_vgpu_driver);

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
	mdev_unregister_driver(&lab_vgpu_driver);
	return ret;
}
module_init(lab_init);

static void __exit lab_exit(void)
{
	pci_unregister_driver(&lab_audio_driver);
	pci_unregister_driver(&lab_gpu_driver);
	mdev_unregister_driver(&lab_vgpu_driver);
	lab_gpu_destroy_numbers();
}
module_exit(lab_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Native drivers for the lab's emulated GPU (a test fixture)");
