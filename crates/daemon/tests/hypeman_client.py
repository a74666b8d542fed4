"""The public client (PyPI hypeman 0.28), unmodified, drives a daemon: devices, images, instances, resources.

Usage: hypeman_client.py URL TOKEN ADDRESS IMAGE

ADDRESS is a GPU that is free and not registered, IMAGE a ready image. Everything that it makes, it removes. It prints what
it did, and fails at the first answer that is not what the client's types promise.
"""

import sys
import time
from datetime import datetime

import hypeman
from hypeman import Hypeman

url, token, address, image = sys.argv[1:]
# Without the client's own retries: each answer is looked at. A create in an emulated host takes its time.
client = Hypeman(api_key=token, base_url=url, max_retries=0, timeout=180)


def did(what, value=None):
    print(f"ok  {what}" + ("" if value is None else f": {value}"), flush=True)


def refused(kind, code, call):
    try:
        call()
    except kind as error:
        assert error.body["code"] == code, error.body
        assert len(error.body["message"]) > 20, error.body
        did(f"refused with {error.status_code} {code}", error.body["message"])
    else:
        raise AssertionError(f"{code}: not refused")


def host():
    assert client.health.check().status == "ok"
    did("health.check")
    capabilities = client.capabilities.get()
    assert "devices" in capabilities.features and capabilities.host.os == "linux"
    assert capabilities.default_runtime.name == "qemu" and capabilities.default_runtime.available
    did("capabilities.get", capabilities.features)
    resources = client.resources.get()
    for resource in (resources.cpu, resources.memory, resources.disk):
        assert resource.capacity > 0 and 0 <= resource.available <= resource.effective_limit
    did("resources.get", f"{resources.cpu.capacity} cpus")


def devices():
    available = {device.pci_address: device for device in client.devices.list_available()}
    found = available[address]
    assert len(found.vendor_id) == 4 and isinstance(found.iommu_group, int)
    did("devices.list_available", sorted(available))

    device = client.devices.create(pci_address=address, name="hypeman-gpu", tags={"by": "hypeman"})
    assert device.type == "gpu" and device.pci_address == address and device.name == "hypeman-gpu"
    assert isinstance(device.created_at, datetime) and device.attached_to is None
    assert device.bound_to_vfio is False and device.iommu_group == found.iommu_group
    did("devices.create", device.id)

    for key in (device.id, device.name):
        assert client.devices.retrieve(key).id == device.id
    did("devices.retrieve, by id and by name")
    assert [one.id for one in client.devices.list(tags={"by": "hypeman"})] == [device.id]
    assert client.devices.list(tags={"by": "somebody else"}) == []
    did("devices.list, by tags")

    create = client.devices.create
    refused(hypeman.ConflictError, "conflict", lambda: create(pci_address=address, name="again"))
    refused(hypeman.BadRequestError, "invalid_pci_address", lambda: create(pci_address="hello"))
    refused(hypeman.NotFoundError, "device_not_found", lambda: create(pci_address="0000:77:1f.7"))
    refused(hypeman.NotFoundError, "not_found", lambda: client.devices.retrieve("no-such-device"))
    return device


def images():
    shown = client.images.get(image)
    assert shown.status == "ready" and shown.digest.startswith("sha256:")
    assert isinstance(shown.created_at, datetime)
    assert image in [one.name for one in client.images.list()]
    assert client.images.create(name=image).name == image
    did("images.get, list, create of one that is there", shown.digest)
    # No registry listens there: the pull begins, and fails.
    missing = "localhost:1/no-such:1"
    refused(hypeman.NotFoundError, "not_found", lambda: client.images.get(missing))
    assert client.images.create(name=missing).status in ("pending", "pulling", "failed")
    while (pulled := client.images.get(missing)).status != "failed":
        time.sleep(0.1)
    assert "localhost:1" in pulled.error, pulled
    client.images.delete(missing)


def instances(device):
    create = client.instances.create
    instance = create(
        name="hypeman-vm",
        image=image,
        size="256MB",
        vcpus=1,
        devices=[device.name],
        network={"enabled": False},
        tags={"by": "hypeman"},
    )
    assert instance.name == "hypeman-vm" and instance.state == "Running", instance
    assert instance.size == "256MB" and instance.vcpus == 1 and instance.hypervisor == "qemu"
    assert instance.network.enabled is False and isinstance(instance.created_at, datetime)
    assert isinstance(instance.started_at, datetime) and instance.stopped_at is None
    did("instances.create", instance.id)

    attached = client.devices.retrieve(device.id)
    assert attached.attached_to == instance.id and attached.bound_to_vfio is True
    gpu = client.resources.get().gpu
    assert gpu.mode in ("passthrough", "vgpu") and gpu.used_slots <= gpu.total_slots
    assert [one.available for one in gpu.devices if one.name == device.name] == [False], gpu
    did("the device is attached, and counted", f"{gpu.used_slots} of {gpu.total_slots}")

    for key in (instance.id, instance.name):
        assert client.instances.get(key).id == instance.id
    assert [one.id for one in client.instances.list(tags={"by": "hypeman"})] == [instance.id]
    assert client.instances.list(state="Stopped", tags={"by": "hypeman"}) == []
    waited = client.instances.wait(instance.id, state="Running", api_timeout="30s")
    assert waited.state == "Running" and waited.timed_out is False
    did("instances.get, list, wait")

    with client.instances.logs(instance.id, tail=20) as lines:
        lines = list(lines)
    assert all(isinstance(line, str) for line in lines)
    did("instances.logs", f"{len(lines)} lines")

    refused(hypeman.ConflictError, "in_use", lambda: client.devices.delete(device.id))
    refused(hypeman.ConflictError, "name_conflict", lambda: create(name="hypeman-vm", image=image))
    refused(hypeman.NotFoundError, "not_found", lambda: create(name="other", image=image, devices=["none"]))
    refused(hypeman.BadRequestError, "invalid_size", lambda: create(name="other", image=image, size="much"))
    connected = create(name="connected", image=image, size="256MB", vcpus=1, network={"enabled": True})
    assert connected.network.enabled is True and connected.network.ip == "10.0.2.15", connected
    client.instances.delete(connected.id)
    did("instances.create with a network", connected.network.mac)
    refused(hypeman.InternalServerError, "not_implemented", lambda: client.instances.standby(instance.id))
    refused(hypeman.InternalServerError, "not_implemented", lambda: client.ingresses.list())

    stopped = client.instances.stop(instance.id)
    assert stopped.state == "Stopped" and isinstance(stopped.stopped_at, datetime)
    did("instances.stop")
    started = client.instances.start(instance.id)
    assert started.state == "Running"
    did("instances.start")
    assert client.instances.delete(instance.id) is None
    refused(hypeman.NotFoundError, "not_found", lambda: client.instances.get(instance.id))
    did("instances.delete")


host()
registered = devices()
images()
instances(registered)
after = client.devices.retrieve(registered.id)
assert after.attached_to is None and after.bound_to_vfio is False
did("the host has the device back")
assert client.devices.delete(registered.id) is None
assert registered.id not in [one.id for one in client.devices.list()]
did("devices.delete")
