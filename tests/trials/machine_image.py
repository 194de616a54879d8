"""Folders that boot as machines: Debian 12 as a cloud's image has it, and what its user data is."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.trials.stepping import TrialError

MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"
_BASE_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates,python-is-python3"
_IMAGE_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "cloud-init",
    "sudo",
    "iproute2",
    "ca-certificates",
    "curl",
    "procps",
    "locales",
    "openssh-server",
    "lsb-release",
)
"""What images of clouds have and a minimal Debian has not."""
_HOST_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n", re.DOTALL)
_CLOUD_CFG = """\
datasource_list: [NoCloud, None]
locale: C.UTF-8
# The network is the host's, and stays as it is.
network: {config: disabled}
"""
_PIP_CONF = "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n"
_TAIL_CHARS = 3_000


@dataclass(frozen=True, slots=True)
class Seed:
    """What a machine is told at its first boot."""

    name: str
    user_data: str

    @property
    def meta_data(self) -> str:
        """NoCloud's: a new instance id is a first boot."""
        return f"instance-id: {self.name}\nlocal-hostname: {self.name}\n"


def certificates(bundle: str) -> list[str]:
    """The certificates of a bundle: ``update-ca-certificates`` wants a file for each."""
    return _CERTIFICATE.findall(bundle)


def hosts(machine: str, names: tuple[str, ...]) -> str:
    """``/etc/hosts`` of a machine whose network is the host's."""
    return f"127.0.0.1 {' '.join(('localhost', machine, *names))}\n"


def make_base(folder: Path, given: Path | None) -> str:
    """A minimal Debian, made or copied. Returns what was done."""
    if given is not None:
        if not (given / "etc/debian_version").is_file():
            raise TrialError(f"--base {given}: no Debian there")
        copy(given, folder)
        return f"copied from {given}"
    run(
        "debootstrap",
        "--variant=minbase",
        f"--include={_BASE_PACKAGES}",
        SUITE,
        str(folder),
        MIRROR,
    )
    return f"debootstrap {SUITE}"


def make_image(folder: Path, trusted: str) -> str:
    """What a cloud's image has more, into that Debian. Returns the version of its cloud-init.

    Args:
        trusted: a certificate that machines believe, beside all that the host believes.
    """
    shutil.copyfile("/etc/resolv.conf", folder / "etc/resolv.conf")
    (folder / "etc/pip.conf").write_text(_PIP_CONF)
    # In a folder nothing is to be started when it is installed.
    policy = folder / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    chroot = ("chroot", str(folder), "/usr/bin/env", "DEBIAN_FRONTEND=noninteractive")
    run(*chroot, "apt-get", "-q", "update")
    run(*chroot, "apt-get", "-qy", "install", *_IMAGE_PACKAGES)
    run(*chroot, "apt-get", "clean")
    policy.unlink()
    own = folder / "usr/local/share/ca-certificates"
    own.mkdir(parents=True, exist_ok=True)
    bundle = _HOST_BUNDLE.read_text() if _HOST_BUNDLE.exists() else ""
    for number, pem in enumerate(certificates(trusted + bundle)):
        (own / f"trial-{number:03}.crt").write_text(pem)
    run(*chroot, "update-ca-certificates")
    # The port would be the host's.
    run(*chroot, "systemctl", "mask", "ssh.service", "ssh.socket")
    return run(*chroot, "dpkg-query", "-W", "-f", "${Version}", "cloud-init")


def make_machine(image: Path, folder: Path, seed: Seed, names: tuple[str, ...]) -> None:
    """A machine that was never booted; ``names`` lead to the host."""
    copy(image, folder)
    (folder / "etc/machine-id").write_text("")
    (folder / "etc/hostname").write_text(f"{seed.name}\n")
    (folder / "etc/hosts").write_text(hosts(seed.name, names))
    (folder / "etc/cloud/cloud.cfg.d/99_trial.cfg").write_text(_CLOUD_CFG)
    told = folder / "var/lib/cloud/seed/nocloud"
    told.mkdir(parents=True)
    (told / "user-data").write_text(seed.user_data)
    (told / "meta-data").write_text(seed.meta_data)


def copy(source: Path, target: Path) -> None:
    """A whole tree with its owners, links and rights."""
    run("cp", "-a", "--reflink=auto", str(source), str(target))


def run(*argv: str, cwd: Path | None = None, within_s: float = 900.0) -> str:
    """What a program printed.

    Raises:
        TrialError: it failed or took too long; with the end of what it said.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=within_s,
        )
    except subprocess.TimeoutExpired as error:
        raise TrialError(f"{' '.join(argv[:4])}: not within {within_s:g} s") from error
    if done.returncode:
        said = (done.stdout + done.stderr)[-_TAIL_CHARS:]
        raise TrialError(f"{' '.join(argv)}: status {done.returncode}\n{said}")
    return done.stdout.strip()
