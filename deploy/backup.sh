#!/bin/sh
# A dated backup, and only then an end to the oldest ones.
#
#   backup.sh PLANT.TOML FOLDER [KEEP]
#
# KEEP complete backups stay, 14 if it is not said. Where there is no systemd,
# in /etc/cron.d/hptwin:
#
#   15 3 * * * hptwin HPTWIN=/opt/hptwin/.venv/bin/hptwin /opt/hptwin/deploy/backup.sh /etc/hptwin/plant.toml /var/backups/hptwin 14
set -eu

plant=$1
folder=$2
keep=${3-14}
case $keep in
  '' | 0 | *[!0-9]*) echo "backup.sh: KEEP is \"$keep\"; write a number from 1 on" >&2; exit 2 ;;
esac

# A backup has its name once it is complete, so what carries one is whole.
"${HPTWIN:-hptwin}" backup "$folder/hptwin-$(date -u +%Y%m%dT%H%M%SZ)" -c "$plant"

digit='[0-9]'
eight=$digit$digit$digit$digit$digit$digit$digit$digit
six=$digit$digit$digit$digit$digit$digit
# Unquoted, for the shell to find them: such names hold no space. Oldest first.
# shellcheck disable=SC2086
set -- "$folder"/hptwin-${eight}T${six}Z
while [ "$#" -gt "$keep" ]; do
  echo "backup.sh: $1 is older than the last $keep and goes"
  rm -rf -- "$1"
  shift
done
