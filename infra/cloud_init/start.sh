#!/bin/bash
# Starts this machine's tier once its secrets are there (headwater-start.path looks for them). Fails
# where a worker's model is not there yet or would not fit; systemd then tries again, and
# `journalctl -u headwater-start` says why.
set -euo pipefail

python=/opt/headwater/bin/python
config=/etc/headwater/headwater.toml
case $(cat /etc/headwater/tier) in
  origin)
    units=(headwater-origin.service)
    ;;
  edge)
    units=(headwater-edge@1.service headwater-edge@2.service)
    ;;
  worker)
    # What fits is known before a byte of the weights is pulled.
    read -r model sources < <("$python" -c 'import sys, tomllib; worker = tomllib.load(open(sys.argv[1], "rb"))["worker"]; print(worker["model"], ",".join(worker["sources"]))' "$config")
    /opt/headwater/bin/headwater fit "$model" --from "$sources" --trust-root /etc/headwater/root.json --token-file /etc/headwater/credentials/worker-token --config "$config"
    command -v nvidia-modprobe > /dev/null && nvidia-modprobe -u -c=0
    units=(headwater-worker.service)
    ;;
  *)
    echo "/etc/headwater/tier names no tier" >&2
    exit 2
    ;;
esac
# --no-block: a worker says ready when it has pulled, which may take long.
systemctl enable "${units[@]}"
systemctl start --no-block "${units[@]}"
