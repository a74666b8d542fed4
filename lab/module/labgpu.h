/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LABGPU_H
#define LABGPU_H

#include <linux/kref.h>
#include <linux/mdev.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/wait.h>

#define LAB_VENDOR	0x10de
#define LAB_MEMORY_MB	16384		/* for vGPUs */

struct lab_type {
	struct mdev_type type;
	unsigned int megabytes;
};

struct lab_gpu {
	struct kref users;		/* the driver, and each open node */
	struct mutex lock;		/* of the fields up to bar */
	bool gone;
	unsigned int openers;
	unsigned int megabytes_left;
	void __iomem *bar;		/* NULL after the driver is unbound */
	wait_queue_head_t closed;
	int number;
	char name[16];
	struct miscdevice node;
	struct pci_dev *pdev;
	resource_size_t space;		/* of BAR 0, accessible by the node */
	struct mdev_parent parent;	/* its dev is NULL without vGPUs */
	struct lab_type types[3];
	struct mdev_type *type_list[3];
};

struct lab_gpu *lab_gpu_new(struct pci_dev *pdev, void __iomem *bar);
void lab_gpu_put(struct lab_gpu *gpu);
void lab_gpu_destroy_numbers(void);

int lab_node_add(struct lab_gpu *gpu);

extern struct mdev_driver lab_vgpu_driver;
int lab_vgpus_offer(struct lab_gpu *gpu);
void lab_vgpus_withdraw(struct lab_gpu *gpu);

#endif
