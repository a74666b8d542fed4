// SPDX-License-Identifier: GPL-2.0
/*
 * The object of a GPU. Its users are the driver and each open node; the last
 * one frees it.
 */
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "labgpu.h"

static DEFINE_IDA(lab_numbers);

static void lab_gpu_free(struct kref *users)
{
	struct lab_gpu *gpu = container_of(users, struct lab_gpu, users);

	ida_free(&lab_numbers, gpu->number);
	mutex_destroy(&gpu->lock);
	kfree(gpu);
}

void lab_gpu_put(struct lab_gpu *gpu)
{
	kref_put(&gpu->users, lab_gpu_free);
}

struct lab_gpu *lab_gpu_new(struct pci_dev *pdev, void __iomem *bar)
{
	struct lab_gpu *gpu = kzalloc(sizeof(*gpu), GFP_KERNEL);
	int number;

	if (!gpu)
		return ERR_PTR(-ENOMEM);
	number = ida_alloc(&lab_numbers, GFP_KERNEL);
	if (number < 0) {
		kfree(gpu);
		return ERR_PTR(number);
	}
	kref_init(&gpu->users);
	mutex_init(&gpu->lock);
	init_waitqueue_head(&gpu->closed);
	gpu->number = number;
	gpu->pdev = pdev;
	gpu->bar = bar;
	gpu->megabytes_left = LAB_MEMORY_MB;
	return gpu;
}

void lab_gpu_destroy_numbers(void)
{
	ida_destroy(&lab_numbers);
}
