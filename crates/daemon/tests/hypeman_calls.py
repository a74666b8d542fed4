"""Every method of the public client (PyPI hypeman 0.28), with strict types, against a daemon.

Usage: hypeman_calls.py URL TOKEN ADDRESS IMAGE

ADDRESS is a GPU that is free and not registered, IMAGE a ready image. Each row is a method, a call of it, and what it must
answer: a value of the client's own type, or a refusal with this status and code. A method of the client without a row fails.
"""

import io
import sys
import tarfile

import hypeman
from hypeman import Hypeman

url, token, address, image = sys.argv[1:]
# The client then refuses an answer that is not what its types promise.
client = Hypeman(api_key=token, base_url=url, max_retries=0, timeout=60, _strict_response_validation=True)

NOT_OFFERED = (501, "not_implemented")
OK = None
rule = {"match": {"hostname": "a.example"}, "target": {"instance": "vm", "port": 80}}
retention = {"max_count": 1}

instances = client.instances
TABLE = [
    ("health.check", lambda: client.health.check(), OK),
    ("capabilities.get", lambda: client.capabilities.get(), OK),
    ("resources.get", lambda: client.resources.get(), OK),
    ("resources.reclaim_memory", lambda: client.resources.reclaim_memory(reclaim_bytes=1), NOT_OFFERED),
    ("devices.list_available", lambda: client.devices.list_available(), OK),
    ("devices.create", lambda: client.devices.create(pci_address=address, name="calls-gpu", tags={"by": "calls"}), OK),
    ("devices.create", lambda: client.devices.create(pci_address=address, name="gpu"), (400, "invalid_name")),
    ("devices.create", lambda: client.devices.create(pci_address=address, name="again"), (409, "conflict")),
    ("devices.create", lambda: client.devices.create(pci_address="hello"), (400, "invalid_pci_address")),
    ("devices.retrieve", lambda: client.devices.retrieve("calls-gpu"), OK),
    ("devices.retrieve", lambda: client.devices.retrieve("none"), (404, "not_found")),
    ("devices.list", lambda: client.devices.list(), OK),
    ("devices.list", lambda: only(client.devices.list(tags={"by": "calls"}), "calls-gpu"), OK),
    ("devices.list", lambda: only(client.devices.list(tags={"by": "others"})), OK),
    ("images.create", lambda: client.images.create(name=image), OK),
    ("images.create", lambda: client.images.create(name="localhost:1/none:1", tags={"a": "b"}), OK),
    ("images.create", lambda: client.images.create(name="../x"), (400, "invalid_name")),
    ("images.get", lambda: client.images.get(image), OK),
    ("images.get", lambda: client.images.get("none"), (404, "not_found")),
    ("images.list", lambda: client.images.list(), OK),
    ("images.list", lambda: only(client.images.list(tags={"no": "such"})), OK),
    ("images.tag", lambda: client.images.tag(image, target="other:1"), NOT_OFFERED),
    ("images.delete", lambda: client.images.delete("none"), (404, "not_found")),
    ("instances.create", lambda: absent(instances.create(name="vm", image=image, devices=["calls-gpu"], tags={"by": "calls"})), OK),
    ("instances.create", lambda: instances.create(name="vm", image=image), (409, "name_conflict")),
    ("instances.create", lambda: instances.create(name="Bad_Name", image=image), (400, "invalid_name")),
    ("instances.create", lambda: instances.create(name="b", image="none"), (404, "not_found")),
    ("instances.create", lambda: instances.create(name="b", image=image, devices=["none"]), (404, "not_found")),
    ("instances.create", lambda: instances.create(name="b", image=image, size="much"), (400, "invalid_size")),
    ("instances.create", lambda: instances.create(name="b", image=image, cmd=["true"]), (409, "invalid_state")),
    ("instances.create", lambda: instances.create(name="b", image=image, gpu={"profile": "L40S-1Q"}), (409, "insufficient_resources")),
    ("instances.create", lambda: instances.create(name="b", image=image, ttl="1h"), NOT_OFFERED),
    ("instances.create", lambda: connected(instances.create(name="connected", image=image, network={"enabled": True})), OK),
    ("instances.delete", lambda: instances.delete("connected"), OK),
    ("instances.create", lambda: instances.create(name="b", image=image, health_check={"type": "http"}), NOT_OFFERED),
    ("instances.create", lambda: policed(instances.create(name="policed", image=image, restart_policy={"policy": "always", "backoff": "7s"}), "always", "7s"), OK),
    ("instances.update", lambda: policed(instances.update("policed", restart_policy={"policy": "on_failure"}), "on_failure", "7s"), OK),
    ("instances.delete", lambda: instances.delete("policed"), OK),
    ("instances.create", lambda: instances.create(name="b", image=image, volumes=[{"volume_id": "none", "mount_path": "/v"}]), (404, "not_found")),
    ("volumes.create", lambda: client.volumes.create(name="v", size_gb=1, tags={"by": "calls"}), OK),
    ("volumes.create", lambda: client.volumes.create(name="v", size_gb=1), (409, "already_exists")),
    ("volumes.create", lambda: client.volumes.create(name="w", size_gb=1, id="bd4aa2b4-9c54-4d10-9c8e-4f4f4b2b3c7d"), OK),
    ("instances.create", lambda: mounted(instances.create(name="mounted", image=image, volumes=[{"volume_id": "v", "mount_path": "/v"}])), OK),
    ("volumes.get", lambda: attached(client.volumes.get("v")), OK),
    ("volumes.delete", lambda: client.volumes.delete("v"), (409, "in_use")),
    ("instances.volumes.attach", lambda: instances.volumes.attach("w", id="mounted", mount_path="/w"), (409, "insufficient_resources")),
    ("instances.stop", lambda: instances.stop("mounted"), OK),
    ("instances.volumes.attach", lambda: instances.volumes.attach("w", id="mounted", mount_path="/w", readonly=True), OK),
    ("instances.volumes.detach", lambda: instances.volumes.detach("v", id="mounted"), OK),
    ("instances.delete", lambda: instances.delete("mounted"), OK),
    ("instances.create", lambda: warned(instances.create(name="b", image=image, skip_guest_agent=True, ttl="0s")), OK),
    ("instances.get", lambda: instances.get("vm"), OK),
    ("instances.get", lambda: instances.get("none"), (404, "not_found")),
    ("instances.list", lambda: instances.list(), OK),
    ("instances.list", lambda: only(instances.list(tags={"by": "calls"}, state="Running"), "vm"), OK),
    ("instances.list", lambda: only(instances.list(state="Standby")), OK),
    ("instances.update", lambda: instances.update("vm", ttl="1h"), NOT_OFFERED),
    ("instances.wait", lambda: instances.wait("vm", state="Running", api_timeout="5s"), OK),
    ("instances.logs", lambda: list(instances.logs("vm", tail=5)), OK),
    ("instances.logs", lambda: list(instances.logs("vm", source="vmm")), NOT_OFFERED),
    ("instances.stat", lambda: instances.stat("vm", path="/etc"), (409, "invalid_state")),
    ("instances.stat", lambda: instances.stat("boxed", path="/etc", follow_links=True), OK),
    ("instances.stats", lambda: measured(instances.stats("vm")), OK),
    ("instances.stats", lambda: instances.stats("none"), (404, "not_found")),
    ("instances.standby", lambda: instances.standby("vm"), NOT_OFFERED),
    ("instances.restore", lambda: instances.restore("vm"), NOT_OFFERED),
    ("instances.fork", lambda: instances.fork("vm", name="fork"), NOT_OFFERED),
    ("instances.auto_standby.status", lambda: instances.auto_standby.status("vm"), NOT_OFFERED),
    ("instances.auto_standby.hold", lambda: instances.auto_standby.hold("vm"), NOT_OFFERED),
    ("instances.volumes.attach", lambda: instances.volumes.attach("none", id="none", mount_path="/v"), (404, "not_found")),
    ("instances.volumes.detach", lambda: instances.volumes.detach("v", id="none"), (404, "not_found")),
    ("instances.snapshots.create", lambda: instances.snapshots.create("vm", kind="Standby"), NOT_OFFERED),
    ("instances.snapshots.restore", lambda: instances.snapshots.restore("s", id="vm"), NOT_OFFERED),
    ("instances.snapshot_schedule.update", lambda: instances.snapshot_schedule.update("vm", interval="1h", retention=retention), NOT_OFFERED),
    ("instances.snapshot_schedule.get", lambda: instances.snapshot_schedule.get("vm"), NOT_OFFERED),
    ("instances.snapshot_schedule.delete", lambda: instances.snapshot_schedule.delete("vm"), NOT_OFFERED),
    ("devices.delete", lambda: client.devices.delete("calls-gpu"), (409, "in_use")),
    ("images.delete", lambda: client.images.delete(image), (409, "in_use")),
    ("instances.stop", lambda: instances.stop("vm"), OK),
    ("instances.stats", lambda: nothing_used(instances.stats("vm")), OK),
    ("instances.start", lambda: instances.start("vm", cmd=["true"]), (409, "invalid_state")),
    ("instances.start", lambda: instances.start("vm"), OK),
    ("instances.delete", lambda: instances.delete("vm", graceful_shutdown=True), OK),
    ("instances.delete", lambda: instances.delete("b"), OK),
    ("instances.delete", lambda: instances.delete("none"), (404, "not_found")),
    ("devices.delete", lambda: client.devices.delete("calls-gpu"), OK),
    ("volumes.create", lambda: client.volumes.create(name="a b", size_gb=1), (400, "invalid_name")),
    ("volumes.create", lambda: client.volumes.create(name="x", size_gb=0), (400, "invalid_size")),
    ("volumes.create_from_archive", lambda: client.volumes.create_from_archive(b"x", name="a", size_gb=1), (400, "invalid_request")),
    ("volumes.create_from_archive", lambda: client.volumes.create_from_archive(archive(), name="v", size_gb=1), (409, "already_exists")),
    ("volumes.create_from_archive", lambda: client.volumes.create_from_archive(archive(), name="a", size_gb=1, tags={"by": "archive"}), OK),
    ("volumes.get", lambda: client.volumes.get("a"), OK),
    ("volumes.delete", lambda: client.volumes.delete("a"), OK),
    ("volumes.list", lambda: only(client.volumes.list(tags={"by": "calls"}), "v"), OK),
    ("volumes.get", lambda: client.volumes.get("none"), (404, "not_found")),
    ("volumes.delete", lambda: client.volumes.delete("v"), OK),
    ("volumes.delete", lambda: client.volumes.delete("w"), OK),
    ("snapshots.list", lambda: client.snapshots.list(), NOT_OFFERED),
    ("snapshots.get", lambda: client.snapshots.get("s"), NOT_OFFERED),
    ("snapshots.fork", lambda: client.snapshots.fork("s", name="f"), NOT_OFFERED),
    ("snapshots.delete", lambda: client.snapshots.delete("s"), NOT_OFFERED),
    ("ingresses.create", lambda: client.ingresses.create(name="i", rules=[rule]), NOT_OFFERED),
    ("ingresses.list", lambda: client.ingresses.list(), NOT_OFFERED),
    ("ingresses.get", lambda: client.ingresses.get("i"), NOT_OFFERED),
    ("ingresses.delete", lambda: client.ingresses.delete("i"), NOT_OFFERED),
    ("builds.create", lambda: client.builds.create(source=b"x"), NOT_OFFERED),
    ("builds.list", lambda: client.builds.list(), NOT_OFFERED),
    ("builds.get", lambda: client.builds.get("b"), NOT_OFFERED),
    ("builds.cancel", lambda: client.builds.cancel("b"), NOT_OFFERED),
    ("builds.events", lambda: list(client.builds.events("b")), NOT_OFFERED),
    ("builders.create", lambda: client.builders.create(), NOT_OFFERED),
    ("builders.list", lambda: client.builders.list(), NOT_OFFERED),
    ("builders.get", lambda: client.builders.get("b"), NOT_OFFERED),
    ("builders.prune", lambda: client.builders.prune("b"), NOT_OFFERED),
    ("builders.delete", lambda: client.builders.delete("b"), NOT_OFFERED),
    ("pushes.create", lambda: client.pushes.create(image=image, target="t"), NOT_OFFERED),
    ("pushes.list", lambda: client.pushes.list(), NOT_OFFERED),
    ("pushes.get", lambda: client.pushes.get("p"), NOT_OFFERED),
    # The client opens these as web sockets.
    ("exec", lambda: client.get("/instances/vm/exec", cast_to=object, options={"headers": {"Upgrade": "websocket"}}), (404, "not_found")),
    ("cp", lambda: client.get("/instances/vm/cp", cast_to=object), (404, "not_found")),
]


def archive():
    """A tar.gz archive with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        entry = tarfile.TarInfo("hello")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    return out.getvalue()


def connected(instance):
    """An instance with a network card: hypeman's fields tell its address."""
    network = instance.network
    assert network.enabled is True and network.ip == "10.0.2.15" and network.mac.startswith("52:54:00:"), network
    return instance


def policed(instance, policy, backoff):
    """An instance with a restart policy, in hypeman's words."""
    assert (instance.restart_policy.policy, instance.restart_policy.backoff) == (policy, backoff), instance
    return instance


def mounted(instance):
    """An instance with a volume, as hypeman's fields tell it."""
    assert [(one.mount_path, one.readonly) for one in instance.volumes] == [("/v", False)], instance.volumes


def attached(volume):
    assert [(one.mount_path, one.readonly) for one in volume.attachments] == [("/v", False)], volume
def measured(stats):
    """What an instance uses: a machine that does not run uses nothing."""
    assert stats.instance_name == "vm" and stats.allocated_memory_bytes == 1 << 30, stats
    assert stats.memory_utilization_ratio == stats.memory_rss_bytes / stats.allocated_memory_bytes, stats
    assert stats.model_dump()["network_measured"] is False, stats
    return stats


def nothing_used(stats):
    assert (stats.cpu_seconds, stats.memory_rss_bytes, stats.network_rx_bytes) == (0, 0, 0), stats


def only(found, *names):
    assert [one.name for one in found] == list(names), found


def absent(instance):
    sent = instance.model_dump(exclude_unset=True)
    assert "overlay_size" not in sent and "gpu" not in sent, sent
    assert sent["expires_at"] is None, sent


def warned(instance):
    warnings = instance.model_dump()["warnings"]
    assert len(warnings) == 1 and "skip_guest_agent" in warnings[0], warnings


def methods(of, path=""):
    """The names of all methods of the client that make a request."""
    for name in dir(type(of)):
        member = getattr(type(of), name)
        if name.startswith(("_", "with_")):
            continue
        if callable(member) and path:
            yield f"{path}.{name}"
        elif type(member).__name__ == "cached_property":
            inner = getattr(of, name)
            if type(inner).__name__.endswith("Resource"):
                yield from methods(inner, f"{path}.{name}" if path else name)


rows = {name for name, _, _ in TABLE}
missing = sorted(set(methods(client)) - rows)
assert not missing, f"methods without a row: {missing}"
for name, call, expected in TABLE:
    try:
        call()
        outcome = OK
    except hypeman.APIStatusError as error:
        outcome = (error.status_code, error.body["code"])
        assert len(error.body["message"]) > 10 and error.body["details"]["remedy"], error.body
    assert outcome == expected, f"{name}: {outcome} instead of {expected}"
print(f"{len(TABLE)} calls of {len(rows)} methods")
