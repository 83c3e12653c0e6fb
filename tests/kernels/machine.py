"""A virtual machine, thrown away after use, that runs one program on another kernel.

Emulated (TCG), not under KVM: about twelve times slower, but the same on every machine, also on
those that are virtual themselves. Without a network; for amd64 with two memory nodes.

Three files are all that passes: a disk image goes in, from which /var/tmp/start is run; what that
prints, and what it writes to /dev/test-result, comes out.
"""

import contextlib
import lzma
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from debian import Failed, install, run

MEMORY = 2048  # MiB
DISK = 2 << 30  # bytes, of which only those that are written take room
# What must be loaded before there is a root to load it from, and what the tests cannot load from
# there: overlay, and zram with its ways to compress.
MODULES = ["virtio_pci", "virtio_blk", "virtio_console", "virtiofs", "ext4"]
MODULES += ["overlay", "lzo_rle", "lz4", "zram"]
# la57: as most machines, without five-level page tables. erms, fsrm: else memory is filled by
# instructions that are emulated a byte at a time. avx2: qemu 7.2 computes it wrongly, and numpy
# sorts with it. pauth: the cheap way to emulate it.
MACHINES = {
    "amd64": [
        *("qemu-system-x86_64", "-M", "q35"),
        *("-cpu", "max,la57=off,erms=off,fsrm=off,avx2=off"),
    ],
    "arm64": ["qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "max,pauth-impdef=on"],
}
EMULATORS = {
    "amd64": {"qemu-system-x86_64": "qemu-system-x86"},
    "arm64": {"qemu-system-aarch64": "qemu-system-arm"},
}
OTHER_PROGRAMS = {"mkfs.ext4": "e2fsprogs", "depmod": "kmod"}
# Debian 13's, in a package of its own, and Debian 12's, which came with qemu
VIRTIOFSD = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"]
# mitigations: they cost time and protect nothing here. secretmem: on by itself only since 6.5.
# vsyscall: off in some kernels; a page above all others that any reader of maps must bear.
KERNEL_OPTIONS = "panic=-1 oops=panic loglevel=4 mitigations=off secretmem.enable=1 vsyscall=xonly"
INIT = Path(__file__).with_name("init.sh")


class Kernel(NamedTuple):
    """A kernel as Debian's package has it, unpacked, and a busybox for its architecture."""

    architecture: str
    release: str
    directory: Path
    busybox: Path


def prepare(architecture):
    """Have everything installed that booting a kernel takes."""
    install(EMULATORS[architecture] | OTHER_PROGRAMS)
    if architecture == "amd64" and not any(map(os.path.exists, VIRTIOFSD)):
        install({VIRTIOFSD[0]: "virtiofsd"})


def boot(kernel, content, log, work, limit):
    """Boot a kernel with the files in `content` on its disk; return when it is down again.

    After `limit` seconds it is ended. What the program inside prints goes to the file `log`; its
    `result`, the `console` with the kernel's own messages, and what `qemu` had to say are in the
    directory `work`.
    """
    disk = work / "disk"
    with open(disk, "wb") as file:
        file.truncate(DISK)
    run("mkfs.ext4", "-q", "-O", "^has_journal", "-d", str(content), str(disk))
    (work / "initrd").write_bytes(_initrd(kernel))
    console = "ttyAMA0" if kernel.architecture == "arm64" else "ttyS0"
    arguments = [
        *MACHINES[kernel.architecture],
        *("-accel", "tcg,thread=multi", "-smp", "2", "-m", f"{MEMORY}M"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-kernel", kernel.directory / f"boot/vmlinuz-{kernel.release}"),
        *("-initrd", work / "initrd", "-append", f"console={console} {KERNEL_OPTIONS}"),
        *("-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={disk}"),
        *("-device", "virtio-blk-pci,drive=disk", "-serial", f"file:{work}/console"),
        *("-device", "virtio-serial-pci"),
    ]
    for name, path in (("log", log), ("result", work / "result")):
        arguments += ["-chardev", f"file,id={name},path={path}"]
        arguments += ["-device", f"virtserialport,chardev={name},name=test-{name}"]
    with contextlib.ExitStack() as stack:
        if kernel.architecture == "amd64":
            arguments += stack.enter_context(_host_files(work))
        command = [str(argument) for argument in arguments]
        with open(work / "qemu", "wb") as said, contextlib.suppress(subprocess.TimeoutExpired):
            # on a time-out it is killed
            subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=limit
            )


@contextlib.contextmanager
def _host_files(work):
    """Serve this machine's files, read-only, while it lasts; give the arguments for qemu.

    Whatever runs inside as root, nothing here can be written: virtiofsd itself sees the files
    through a read-only mount that exists in its own namespace alone.
    """
    if os.geteuid():
        raise Failed("root, to show this machine's files to the virtual one")
    daemon = next(filter(os.path.exists, VIRTIOFSD))
    root, socket = work / "root", work / "socket"
    root.mkdir(exist_ok=True)  # a machine may be booted again
    socket.unlink(missing_ok=True)
    if daemon == VIRTIOFSD[0]:
        how = f"--shared-dir {root} --cache always --sandbox chroot --log-level error"
    else:
        how = f"-f -o source={root},cache=always,sandbox=chroot,log_level=err"
    # a bind mount does not show what is mounted below it: the interpreter may be elsewhere
    mounts = ["/", sys.prefix, sys.base_prefix]
    script = "".join(
        f"mount --bind '{place}' '{root}{place}' && "
        f"mount -o remount,bind,ro '{root}{place}' || exit\n"
        for place in mounts
    )
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    command += [f"{script}exec {daemon} --socket-path={socket} {how}"]
    with open(work / "virtiofsd", "wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        while not socket.exists():
            if process.poll() is not None:
                raise Failed(f"virtiofsd ended: {(work / 'virtiofsd').read_text().strip()}")
            time.sleep(0.05)
        # it needs the machine's memory to be shared with it
        yield [
            *("-object", f"memory-backend-memfd,id=memory0,size={MEMORY // 2}M,share=on"),
            *("-object", f"memory-backend-memfd,id=memory1,size={MEMORY // 2}M,share=on"),
            *("-numa", "node,memdev=memory0,cpus=0", "-numa", "node,memdev=memory1,cpus=1"),
            *("-chardev", f"socket,id=files,path={socket}"),
            *("-device", "vhost-user-fs-pci,chardev=files,tag=host"),
        ]
    finally:
        process.terminate()
        process.wait()


def _initrd(kernel):
    """What a kernel starts with, in RAM: busybox, init.sh, and the modules that init.sh needs."""
    files = {"init": INIT.read_bytes(), "bin/busybox": kernel.busybox.read_bytes()}
    for number, module in enumerate(_modules(kernel), 10):
        content = module.read_bytes()
        if module.suffix == ".xz":
            content = lzma.decompress(content)
        files[f"modules/{number}-{module.name.split('.')[0]}.ko"] = content
    archive = b"".join(_cpio(name, 0o40755) for name in ("bin", "dev", "modules", "proc", "sys"))
    archive += b"".join(_cpio(name, 0o100755, content) for name, content in files.items())
    return archive + _cpio("TRAILER!!!", 0)


def _modules(kernel):
    """The files of MODULES and of what they depend on, in the order in which they are loaded."""
    files = []
    for module in MODULES:
        where = ("--dirname", str(kernel.directory), "--set-version", kernel.release)
        for line in run("modprobe", *where, "--show-depends", module).splitlines():
            what, path = line.split()[:2]
            if what == "insmod" and path not in files:  # else it is part of the kernel itself
                files.append(path)
    return [Path(path) for path in files]


def _cpio(name, mode, content=b""):
    """One entry of a cpio archive, in the format that the kernel unpacks ("newc")."""
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return b"".join(part + bytes(-len(part) % 4) for part in (head, content))
