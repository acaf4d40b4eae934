"""Kubernetes objects of the tests, built so that they read as what they do."""

WORKLOAD_LABEL = "exitcode.test/workload"
IMAGE, SECOND_IMAGE = "local/busybox:1", "local/busybox:e2e"

# A process that never ends by itself and ignores SIGTERM: only SIGKILL (137) ends it.
STUBBORN = "trap '' TERM; while true; do sleep 1; done"
# A process that ends with 0, or 143, on SIGTERM.
POLITE = "trap 'exit 0' TERM; while true; do sleep 0.2; done"
POLITE_143 = "trap 'exit 143' TERM; while true; do sleep 0.2; done"

# Nothing listens on port 1: this probe always fails.
FAILING = {"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 1}


def container(script, name="app", **more):
    """A container that runs a shell script (or a command, given as a list)."""
    command = script if isinstance(script, list) else ["sh", "-c", script]
    return {"name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": command, **more}


def sidecar(script, name="proxy", **more):
    """An init container that stays."""
    return container(script, name, restartPolicy="Always", **more)


def memory(amount):
    """Requests and limits of memory."""
    return {"requests": {"memory": amount}, "limits": {"memory": amount}}


def spec(containers, init=(), grace=1, **more):
    """A pod's spec."""
    containers = containers if isinstance(containers, list) else [containers]
    return {"terminationGracePeriodSeconds": grace, "containers": containers, "initContainers": list(init), **more}


def pod(name, containers, **more):
    """A bare pod."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {WORKLOAD_LABEL: f"barepod.{name}", "e2e": name}},
        "spec": spec(containers, **more),
    }


def template(kind, name, containers, **more):
    """A pod template."""
    return {"metadata": {"labels": {WORKLOAD_LABEL: f"{kind}.{name}", "e2e": name}}, "spec": spec(containers, **more)}


def controller(kind, name, containers, extra=None, **more):
    """A Deployment, StatefulSet or DaemonSet."""
    fields = {"selector": {"matchLabels": {"e2e": name}},
              "template": template(kind.lower(), name, containers, **more), **(extra or {})}
    if kind == "StatefulSet":
        fields["serviceName"] = name
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": fields}


def job(name, containers, retries=0, extra=None, **more):
    """A Job whose pods do not restart their containers."""
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": retries, **(extra or {}),
                 "template": template("job", name, containers, restartPolicy="Never", **more)},
    }


def segfault():
    """A shell script that becomes a process which really dies of SIGSEGV, as the first process of its container.

    The kernel shields the first process of a container from signals it has no handler for; a fault of its own still
    ends it. So the script writes a tiny program (an ELF header and two instructions that store to address 0).
    """
    import struct
    code = b"\x31\xc0\x89\x00"
    entry, size = 0x400000 + 64 + 56, 64 + 56 + len(code)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 0x1000)
    octal = "".join(f"\\{byte:03o}" for byte in head + program + code)
    return f"printf '{octal}' > /tmp/x; busybox chmod +x /tmp/x; sleep 1; exec /tmp/x"
