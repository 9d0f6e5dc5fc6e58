#!/bin/sh
# Before the first start of a page that others reach: somebody who may come in.
#
#   first-user.sh PLANT.TOML PASSWORD_FILE [TOKEN_FILE]
#
# Makes the user "admin" if there is nobody yet, with the password in the file;
# change it on the page, and let others in there. Once there is somebody it leaves
# them alone. With TOKEN_FILE it writes a fresh token there for Prometheus, and the
# one of before ends: a token lasts a year, and each start makes a new one.
set -eu

plant=$1
password=$2
hptwin=${HPTWIN:-hptwin}

there=$("$hptwin" users list -c "$plant")
case $there in
  "no users"*) "$hptwin" users add admin --role admin --password-file "$password" -c "$plant" ;;
esac
if [ "$#" -gt 2 ]; then
  case "
$there" in
    *"
token prometheus "*) "$hptwin" users token prometheus --revoke -c "$plant" ;;
  esac
  "$hptwin" users token prometheus --role viewer --days 366 -c "$plant" > "$3.new"
  # Who may read it, is said by where it lies.
  chmod 0444 "$3.new"
  mv -f "$3.new" "$3"
fi
