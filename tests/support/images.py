"""Container images as tests need them: made of Debian's own files, written as OCI layouts and as `docker save` archives.

`Image` is a stack of layers with a configuration; nothing but Python's tarfile makes them.
"""

import functools
import gzip
import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile

from support import puppet

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
TYPE = "application/vnd.oci.image"


class Layer:
    """One layer: entries in order, then `blob()`."""

    def __init__(self, compress=True):
        self.stream = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.stream, mode="w", format=tarfile.PAX_FORMAT)
        self.compress = compress

    def add(self, name, content=b"", mode=0o644, kind=tarfile.REGTYPE, link=""):
        content = content.encode() if isinstance(content, str) else content
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname = kind, mode, link
        info.size = len(content) if kind == tarfile.REGTYPE else 0
        info.mtime = 1_700_000_000
        self.tar.addfile(info, io.BytesIO(content))
        return self

    def folder(self, name, mode=0o755):
        return self.add(name, mode=mode, kind=tarfile.DIRTYPE)

    def symlink(self, name, target):
        return self.add(name, kind=tarfile.SYMTYPE, link=target)

    def host(self, path, name=None):
        """A file, link or folder of this machine, without its content if it is a folder."""
        info = self.tar.gettarinfo(path, name or path.lstrip("/"))
        with open(path, "rb") if info.isreg() else io.BytesIO() as content:
            self.tar.addfile(info, content)
        return self

    @functools.cached_property
    def archive(self):
        self.tar.close()
        return self.stream.getvalue()

    @functools.cached_property
    def bytes(self):
        return gzip.compress(self.archive, 1, mtime=0) if self.compress else self.archive

    @property
    def diff_id(self):
        return digest(self.archive)

    @property
    def media_type(self):
        return f"{TYPE}.layer.v1.tar" + ("+gzip" if self.compress else "")


class Image:
    """Layers and what Docker calls the image's configuration: Entrypoint, Cmd, WorkingDir, Env, User."""

    def __init__(self, *layers, architecture=ARCHITECTURE, **config):
        self.layers, self.config = list(layers), config
        self.architecture = architecture

    def on(self, *layers, **config):
        """The same with more on top."""
        return Image(*self.layers, *layers, architecture=self.architecture, **{**self.config, **config})

    @property
    def configuration(self):
        return as_json({
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
        })

    @property
    def manifest(self):
        return as_json({
            "schemaVersion": 2,
            "mediaType": f"{TYPE}.manifest.v1+json",
            "config": descriptor(f"{TYPE}.config.v1+json", self.configuration),
            "layers": [descriptor(layer.media_type, layer.bytes) for layer in self.layers],
        })

    def blobs(self):
        return [self.configuration, *(layer.bytes for layer in self.layers)]

    def layout(self, folder, tag="latest"):
        """An OCI layout folder with this one image."""
        folder = pathlib.Path(folder)
        blobs = folder / "blobs/sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for blob in [self.manifest, *self.blobs()]:
            (blobs / digest(blob).split(":")[1]).write_bytes(blob)
        entry = descriptor(f"{TYPE}.manifest.v1+json", self.manifest)
        entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
        (folder / "index.json").write_bytes(as_json({"schemaVersion": 2, "manifests": [entry]}))
        (folder / "oci-layout").write_bytes(as_json({"imageLayoutVersion": "1.0.0"}))
        return folder

    def archive(self, path, tag="app:latest"):
        """What `docker save` writes."""
        names = [f"{layer.diff_id.split(':')[1]}/layer.tar" for layer in self.layers]
        config = digest(self.configuration).split(":")[1] + ".json"
        with tarfile.open(path, "w") as tar:

            def add(name, content):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))

            for name, layer in zip(names, self.layers):
                add(name, layer.archive)
            add(config, self.configuration)
            add("manifest.json", as_json([{"Config": config, "RepoTags": [tag], "Layers": names}]))
        return path


def as_json(value):
    return json.dumps(value, separators=(",", ":")).encode()


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def descriptor(media_type, content):
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def libraries(*programs):
    """The dynamic libraries that programs of this machine need, with the names that they are looked for by."""
    found = {}
    for program in programs:
        text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for line in text.splitlines():
            words = line.split()
            path = words[2] if len(words) > 3 and words[1] == "=>" else words[0]
            if path.startswith("/"):
                found[path] = os.path.realpath(path)
    return found


@functools.cache
def python_base():
    """A root with Debian's Python and the libraries that it needs, and nothing else."""
    layer = Layer()
    for folder in ("usr", "usr/bin", "usr/lib", "var", "var/task", "etc", "tmp"):
        layer.folder(folder)
    for name in ("bin", "lib", "lib64"):
        layer.symlink(name, f"usr/{name}")
    layer.folder("usr/lib64")
    real = os.path.realpath("/usr/bin/python3")
    version = pathlib.Path(real).name
    listed = subprocess.run(
        ["dpkg", "-L", f"{version}-minimal", f"lib{version}-minimal", f"lib{version}-stdlib"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()
    wanted = sorted(path for path in set(listed) if path.startswith((f"/usr/lib/{version}", real)))
    modules = [path for path in wanted if path.endswith(".so")]
    for path in wanted:
        if os.path.lexists(path):
            layer.host(path)
    layer.symlink("usr/bin/python3", version)
    # Podman takes no layer with a name twice.
    names = set(layer.tar.getnames())
    for path, target in libraries(real, *modules).items():
        # Where the loader looks, whether the host has merged its folders or not.
        name = "usr" + path if not path.startswith("/usr") else path[1:]
        if name not in names:
            layer.add(name, pathlib.Path(target).read_bytes(), 0o755)
            names.add(name)
    layer.add("etc/base", "base")
    return layer


def puppet_image(**config):
    """The puppet of `support.puppet` as an image on Debian's Python."""
    program = Layer().folder("app").add("app/puppet", puppet.BOOTSTRAP, 0o755)
    return Image(python_base(), program, **({"Entrypoint": ["/app/puppet"]} | config))
