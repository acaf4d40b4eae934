#!/usr/bin/env python3
"""The image that deploy/image/assemble makes is the one that the Dockerfile describes, by crane's word and this test's own reading.

Reads the Dockerfile's last stage with a reader of its own, pushes the assembled image to a registry on loopback, pulls its
configuration back, and compares. The one file in it must be the binary that was given, and run. Two assemblies are the same
bytes. What can't be right is refused: a dynamic binary, an instruction that is not understood. And the build stage has all that
cargo needs: its steps are done in a folder with only what .dockerignore lets through, but for compiling.

Needs the static build and crane. Exit status 1 on a difference.
"""

import json
import os
import re
import shlex
import subprocess
import tarfile

from cluster import PROJECT, Failed, main, say, scratch
from deploying import Registry, assemble, run, static_binary, tool


def described(revision):
    """What the Dockerfile says of the image, read line by line."""
    text = (PROJECT / "Dockerfile").read_text()
    stage = text.rpartition("\nFROM ")[2]
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", stage, flags=re.M))
    version, = re.findall(r"^ARG VERSION=(\S+)", joined, re.M)
    labels = re.search(r"^LABEL (.*)$", joined, re.M)[1].replace("$VERSION", version).replace("$REVISION", revision)
    return stage.split("\n", 1)[0], {
        "User": re.search(r"^USER (\S+)", joined, re.M)[1],
        "ExposedPorts": {re.search(r"^EXPOSE (\S+)", joined, re.M)[1] + "/tcp": {}},
        "Entrypoint": json.loads(re.search(r"^ENTRYPOINT (.*)$", joined, re.M)[1]),
        "Labels": dict(pair.split("=", 1) for pair in shlex.split(labels)),
        "WorkingDir": "/",
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    }


def expect(what, found, wanted):
    """Fails with both if they differ."""
    if found != wanted:
        raise Failed(f"{what}: {found}, not {wanted}")
    say(f"ok: {what}")


def refused(what, words, *arguments):
    """Fails if assemble takes this."""
    said = run(PROJECT / "deploy" / "image" / "assemble", *arguments, check=False)
    if words not in said:
        raise Failed(f"{what} is not refused: {said}")
    say(f"ok: {what} is refused")


def contents(layer):
    """The files of a layer: name, mode, owner and bytes."""
    with tarfile.open(layer) as tar:
        return [(member.name, member.mode, member.uid, member.gid, tar.extractfile(member).read()) for member in tar]


def build_stage(folder):
    """The steps of the build stage up to the compiler, in a folder of their own."""
    text = (PROJECT / "Dockerfile").read_text().partition(" AS build\n")[2].partition("\nFROM ")[0]
    steps = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.M)).splitlines()
    let_through = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    place, compiled = folder / "src", 0
    place.mkdir()
    for word, _, rest in (step.partition(" ") for step in steps):
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                if source not in let_through:
                    raise Failed(f".dockerignore keeps {source} from the builder")
                run("cp", "-R", PROJECT / source, place / target)
        elif word == "RUN" and "cargo build" in rest:
            command = re.sub(r"cargo build .*?(?= &&)", "cargo metadata --locked --offline --no-deps --format-version 1 >metadata", rest)
            run("sh", "-ec", f"cd {place} && {command.partition(' && cp ')[0]}")
            binaries = [target["name"] for package in json.loads((place / "metadata").read_text())["packages"]
                        for target in package["targets"] if "bin" in target["kind"]]
            expect("cargo sees the binary", binaries, ["exitcode-exporter"])
            compiled += 1
    expect("builds of dependencies, and of the whole", compiled, 2)
    missing = [f"{source.name}: {name}" for source in place.rglob("*.rs")
               for name in re.findall(r'include_(?:str|bytes)![(]"([^"]+)"', source.read_text())
               if "tests" not in source.name and "test" not in name and not (source.parent / name).exists()]
    expect("files that the code includes and the builder lacks", missing, [])
    runbooks = {path.name for path in (PROJECT / "runbooks").glob("*.md")} - {path.name for path in (place / "runbooks").glob("*.md")}
    expect("runbooks that the builder lacks", runbooks, set())


def test():
    """Assembles, pushes, pulls and compares."""
    folder, revision = scratch("image"), "0123abc"
    image, again = folder / "image.tar", folder / "again.tar"
    assemble(image, "--build-arg", f"REVISION={revision}")
    assemble(again, "--build-arg", f"REVISION={revision}")
    expect("two assemblies are the same bytes", image.read_bytes() == again.read_bytes(), True)
    run(tool("crane"), "validate", "--tarball", image)
    base, wanted = described(revision)
    expect("the last stage starts from nothing", base, "scratch")
    registry = Registry(folder)
    try:
        name = registry.push(image, "exitcode-exporter:test")
        config = json.loads(run(tool("crane"), "config", "--insecure", name))
        run(tool("crane"), "export", "--insecure", name, folder / "layers.tar")
    finally:
        registry.stop()
    expect("configuration", config["config"], wanted)
    expect("platform", (config["os"], config["architecture"]), ("linux", {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]))
    binary = static_binary().read_bytes()
    files = contents(folder / "layers.tar")
    expect("files", [file[:4] for file in files], [("exitcode-exporter", 0o755, 0, 0)])
    expect("the file is the binary", files[0][4] == binary, True)
    copy = folder / "exitcode-exporter"
    copy.write_bytes(files[0][4])
    copy.chmod(0o755)
    version = subprocess.run([copy, "--version"], capture_output=True, text=True, timeout=20, check=True, env={}).stdout.strip()
    expect("it runs, with the version of the label", version, f"exitcode-exporter {wanted['Labels']['org.opencontainers.image.version']}")
    build_stage(folder)
    refused("a dynamic binary", "linked dynamically", folder / "x.tar", "--binary", "/bin/ls")
    refused("something that is no binary", "no 64-bit Linux binary", folder / "x.tar", "--binary", PROJECT / "Cargo.toml")
    for line, words in (("RUN true", "cannot assemble RUN true"), ("COPY x /y", "cannot assemble COPY x /y")):
        other = folder / "Dockerfile"
        other.write_text((PROJECT / "Dockerfile").read_text() + line + "\n")
        refused(line, words, folder / "x.tar", "--binary", static_binary(), "--dockerfile", other)
    return 0


if __name__ == "__main__":
    main(test)
