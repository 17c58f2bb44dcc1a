# Gives copied tablespaces their places: the new data directory SEED, then pairs of the directory FROM that the copy is in
# and the location TO that it belongs to. It runs as the user whose data they are. Done again, it goes on where it was interrupted.
set -u
seed=$1
shift
while [ $# -gt 0 ]; do
  from=$1 to=$2
  shift 2
  for part in "$from"/*; do
    [ -e "$part" ] || continue
    if [ -e "$to/${part##*/}" ]; then echo "$to/${part##*/} is there already; it is left as it is" >&2; exit 73; fi
    mv -T -- "$part" "$to/${part##*/}" || exit 1
  done
  for link in "$seed"/pg_tblspc/*; do
    [ "$(readlink -- "$link")" = "$from" ] || continue
    ln -sfnT -- "$to" "$link" || exit 1
  done
  [ ! -d "$from" ] || rmdir -- "$from" || exit 1
  sync -- "$to" "$seed/pg_tblspc" || exit 1
done
