/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LABVF_H
#define LABVF_H

#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/vfio_pci_core.h>

struct labvf_type {
	unsigned int id;
	unsigned int megabytes;
	const char *name;
};

/* Shared by the virtual functions of one physical function. */
struct labvf_pf {
	struct list_head entry;
	unsigned int functions;		/* bound to us */
	struct pci_dev *pdev;
	struct mutex lock;		/* of the fields below, and of the functions */
	unsigned int megabytes_left;
	unsigned int vgpus;
	unsigned int megabytes_each;	/* size of the first vGPU */
};

struct labvf {
	struct vfio_pci_core_device core;	/* must be first */
	struct labvf_pf *pf;
	const struct labvf_type *type;		/* NULL: not a vGPU */
	bool open;
	ktime_t busy_until;
};

int labvf_join(struct labvf *vf, struct pci_dev *pdev);
void labvf_leave(struct labvf *vf);

int labvf_opened(struct labvf *vf);
void labvf_closed(struct labvf *vf);

extern const struct attribute_group *labvf_groups[];

#endif
