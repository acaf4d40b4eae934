"""When the pods API showed the end of which container, and what an exporter that comes and goes read of it: exactly, by the
resource versions of the objects.
"""

import collections
import json
import time

from cluster import Failed, Watch, seconds, until

GROUPS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def records(pod):
    """Each container's records of an end that a pod object shows: (name, record)."""
    for group in GROUPS:
        for entry in pod.get("status", {}).get(group) or []:
            for state in (entry.get("state", {}), entry.get("lastState", {})):
                record = state.get("terminated") or {}
                if record.get("containerID"):
                    yield entry["name"], record


class Shown:
    """The container ids whose end some pod object reported, and when first."""

    def __init__(self):
        self.ends = {}

    def take(self, _, pod):
        """An object of the watch, or of a list."""
        for _, record in records(pod):
            self.ends.setdefault(record["containerID"].rpartition("/")[2], time.time())


class End:
    """The end of one container, and the versions of the pod that show it."""

    def __init__(self, pod, container, record):
        self.namespace, self.uid, self.pod = (pod["metadata"][name] for name in ("namespace", "uid", "name"))
        self.owner = next((o["name"] for o in pod["metadata"].get("ownerReferences", [])), self.pod)
        self.container, self.code, self.reason = container, str(record["exitCode"]), record.get("reason", "")
        self.versions = set()


class Ends:
    """Follows the pods of some namespaces; `wanted` tells which."""

    def __init__(self, cluster, path, wanted):
        self.cluster, self.path, self.wanted = cluster, path, wanted
        # Ends by container, the newest version of each pod, and the pods that are gone.
        self.ends, self.seen, self.gone = {}, {}, set()
        self.watch = Watch(cluster, path, self.take)
        self.watch.start()
        if not self.watch.synced.wait(60):
            raise Failed(f"{path} could not be listed")

    def take(self, kind, pod):
        """An object of the watch, or of a list."""
        if not self.wanted(pod["metadata"]["namespace"]):
            return
        uid, version = pod["metadata"]["uid"], pod["metadata"]["resourceVersion"]
        for container, record in records(pod):
            end = self.ends.setdefault((uid, container, record["containerID"]), End(pod, container, record))
            end.versions.add(version)
        if kind == "DELETED":
            self.gone.add(uid)
        self.seen[uid] = version

    def settle(self):
        """Waits until all that the API shows now was taken in; what it shows no more is gone, whoever saw it go."""
        def caught_up():
            status, body = self.cluster.request("GET", self.path)
            now = {pod["metadata"]["uid"]: pod["metadata"]["resourceVersion"] for pod in body.get("items", [])
                   if self.wanted(pod["metadata"]["namespace"])}
            if status != 200 or any(self.seen.get(uid) != version for uid, version in now.items()):
                return False
            self.gone |= self.seen.keys() - now.keys()
            return True

        until("the watch of the ends has caught up", 60, caught_up)

    def all(self):
        """Every end."""
        return list(self.ends.values())

    def unread(self, kept):
        """The ends that no version of a pod shows of which the exporter kept what it read."""
        return [end for end in self.all() if not end.versions & kept]

    def lost(self, unread, key):
        """How many of the unread went with their pods, by `key`: at most that many are not counted."""
        return collections.Counter(key(end) for end in unread if end.uid in self.gone)

    def write(self, path, unread):
        """One line for each end, for whoever asks why it is not counted."""
        missed = set(map(id, unread))
        path.write_text("".join(
            json.dumps({**vars(end), "versions": sorted(end.versions, key=int), "gone": end.uid in self.gone,
                        "unread": id(end) in missed}) + "\n" for end in self.all()))

    def stop(self):
        """Ends the watch."""
        self.watch.stop()


class Life:
    """What one life of the exporter says in its log, at the level trace."""

    def __init__(self, path):
        self.read, self.restored, self.first = [], None, None
        for line in path.read_text(errors="replace").splitlines():
            try:
                line = json.loads(line)
                at = seconds(line["timestamp"])
            except (ValueError, KeyError, TypeError):
                # The last one, cut by the kill.
                continue
            self.first = self.first or at
            if "saved_at" in line:
                self.restored = seconds(line["saved_at"])
            if line.get("message") == "a pod is read":
                self.read.append((at, line["resource_version"]))


def kept(logs):
    """The versions of pods that were read in a life and saved in the same one, of the logs of all lives in their order.

    When a life saved last, the next one that comes to read the file says. What the last life read, it knows.
    """
    found, saved, following = set(), float("inf"), float("inf")
    for path in reversed(logs):
        life = Life(path)
        if life.first is None:
            continue
        if life.first <= saved <= following:
            found.update(version for at, version in life.read if at < saved)
        if life.restored is not None:
            saved = life.restored
        following = life.first
    return found
