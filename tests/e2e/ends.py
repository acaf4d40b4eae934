"""When the pods API showed the end of which container: what an exporter that comes and goes can know, and what not."""

import collections
import time

from cluster import Watch

GROUPS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
# How far this view of a change and the API server's may be apart, and how long the exporter may take to read what comes
# while it starts, on a busy machine.
LAG, BACKLOG = 0.6, 4.0


class End:
    """The end of one container as pod objects showed it: from `first` until `last`, or until now."""

    def __init__(self, pod, container, record, now):
        self.namespace, self.uid, self.pod = (pod["metadata"][name] for name in ("namespace", "uid", "name"))
        self.owner = next((o["name"] for o in pod["metadata"].get("ownerReferences", [])), self.pod)
        self.container, self.code, self.reason = container, str(record["exitCode"]), record.get("reason", "")
        self.first, self.last = now, None


class Ends:
    """Follows the pods of some namespaces; `wanted` tells which."""

    def __init__(self, cluster, path, wanted):
        self.ends, self.shown, self.gone = {}, collections.defaultdict(dict), {}
        self.wanted, self.lists, self.contact, self.again = wanted, 0, time.time(), None
        self.watch = Watch(cluster, path, self.take)
        self.watch.start()
        self.watch.synced.wait(30)

    def take(self, kind, pod):
        """An object of the watch, or of a list."""
        now = time.time()
        if len(self.watch.lists) != self.lists:
            # Whatever a new list no longer shows, it may have shown last before the connection broke.
            self.lists, self.again = len(self.watch.lists), (self.contact, now + 3)
        self.contact = now
        if not self.wanted(pod["metadata"]["namespace"]):
            return
        hidden = self.again[0] if self.again and now < self.again[1] else now
        uid = pod["metadata"]["uid"]
        for group in GROUPS:
            for entry in pod.get("status", {}).get(group) or []:
                self.entry(pod, uid, entry, now, hidden)
        if kind == "DELETED":
            self.gone[uid] = now
            for name, ids in [item for item in self.shown.items() if item[0][0] == uid]:
                self.hide(ids, now)
                del self.shown[name]

    def entry(self, pod, uid, entry, now, hidden):
        """One container's status."""
        visible = {}
        for record in (entry.get("state", {}), entry.get("lastState", {})):
            record = record.get("terminated") or {}
            if record.get("containerID"):
                visible[record["containerID"]] = record
        before = self.shown[(uid, entry["name"])]
        for container_id in visible.keys() - before.keys():
            end = End(pod, entry["name"], visible[container_id], now)
            before[container_id] = self.ends.setdefault(container_id, end)
        for container_id in before.keys() - visible.keys():
            before.pop(container_id).last = hidden

    @staticmethod
    def hide(ids, now):
        for end in ids.values():
            end.last = now

    def uncertain(self, runs, key):
        """How many ends no run can be blamed for missing, by `key`: none read them while they were shown and saved after.

        `runs` are triples (begun, ready, when the last save known to be shown began). What is shown all the time between
        the first two was in the list; what came after that was read some time later.
        """
        found = collections.Counter()
        for end in list(self.ends.values()):
            last = end.last if end.last is not None else float("inf")
            if not any((end.first + LAG <= begun or end.first + BACKLOG <= saved) and last - LAG >= ready
                       for begun, ready, saved in runs):
                found[key(end)] += 1
        return found

    def lost(self, outages, key):
        """How many ends went with their pods while nobody looked, by `key`: at most that many are not counted."""
        found = collections.Counter()
        for end in list(self.ends.values()):
            gone = self.gone.get(end.uid)
            if gone is not None and any(
                    since - BACKLOG <= end.first and since - LAG <= gone <= until + LAG for since, until in outages):
                found[key(end)] += 1
        return found

    def stop(self):
        """Ends the watch."""
        self.watch.stop()
