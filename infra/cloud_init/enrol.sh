#!/bin/bash
# Brings a machine its secrets by SSH, and so starts its tier.
#
#   enrol.sh FOLDER USER@HOST
#
# FOLDER has root.json and credentials/ with the files of that tier (docs/how-to/deploy-services.md
# has the table); an origin needs no root.json. --pack FOLDER FILE makes enrolment.tar instead, for a
# presigned URL.
set -euo pipefail

pack() {
  local names=(credentials)
  [ ! -e "$1/root.json" ] || names+=(root.json)
  tar -C "$1" --owner=root:0 --group=root:0 --mode='u=rwX,go=' -cf "$2" "${names[@]}"
}

if [ "${1:-}" = --pack ]; then
  (umask 077 && pack "${2:?FOLDER}" "${3:?FILE}")
  exit
fi
folder=${1:?FOLDER} host=${2:?USER@HOST}
# The last file is what the machine waits for.
pack "$folder" - | ssh "$host" 'sudo sh -c "umask 077; tar -xf - -C /etc/headwater --no-same-owner && chown -R root:root /etc/headwater/credentials && if [ -e /etc/headwater/root.json ]; then chmod 0644 /etc/headwater/root.json; fi && touch /etc/headwater/credentials/complete"'
