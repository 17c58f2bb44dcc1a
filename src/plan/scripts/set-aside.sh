# Sets a data directory aside: DATA TARGET OWN RUN UNIT OWNER USER, by a rename within its parent directory, with its tablespaces.
# USER does it, whose data they are; the record alone may be root's (owner.sh). The record of the data directory then names the target: an empty place is free to be filled, as long as the target is there.
data=$1 target=$2 own=$3 run=$4 unit=$5 owner=$6 user=$7
must_hold_lock "$own" "$run"
case $target in "$data".aside.?*) ;; *) refuse "$target does not stand beside $data" ;; esac
case ${target#"$data"} in */*) refuse "$target does not stand beside $data" ;; esac
if [ -e "$target" ] || [ -L "$target" ]; then refuse "$target is there already"; fi
must_be_still "$data"
if [ -n "$unit" ]; then
  case $(systemctl show -P ActiveState "$unit" 2>/dev/null) in
    active | activating | reloading | deactivating) refuse "unit $unit is not stopped" ;;
  esac
fi
inode=$(stat -c %i -- "$data")
# Its tablespaces stay where they are, under another name, and it keeps them: their places are free for those of its
# successor. First the link, then what it leads to; done again, it goes on where it was interrupted.
version=$(head -n 1 -- "$data/PG_VERSION" 2>/dev/null)
for link in "$data"/pg_tblspc/*; do
  [ -L "$link" ] || continue
  place=$(readlink -- "$link")
  case $place in
    */pgstead.aside.*) ;;
    /*)
      [ -d "$place" ] || continue
      place=$place/pgstead.aside.${target#"$data".aside.}
      [ -d "$place" ] || as_user mkdir -m 0700 -- "$place" || exit 74
      as_user ln -sfnT -- "$place" "$link" && sync -- "$data/pg_tblspc" || exit 74 ;;
    *) refuse "$link does not lead to a full path" ;;
  esac
  for part in "${place%/*}/PG_${version}_"*; do
    [ ! -d "$part" ] || { as_user mv -T -- "$part" "$place/${part##*/}" && sync -- "$place" "${place%/*}"; } || exit 74
  done
done
# First the record: a crash in between leaves the data directory where it is, and a record that is not followed.
umask 022
record=$own/data-directory
beside "$record" rm -f -- "$record.new" && printf '%s\n' "$target" | beside "$record" dd conv=excl,fsync of="$record.new" status=none || exit 74
if is_roots "$own"; then chown -h -- "$owner" "$record.new" || exit 74; fi
beside "$record" mv -fT -- "$record.new" "$record" && sync -- "$own" || exit 74
as_user mv -T -- "$data" "$target" || exit 74
sync -- "${data%/*}/" || exit 74
[ "$(stat -c %i -- "$target")" = "$inode" ] || { echo "$target is not the directory that was $data" >&2; exit 74; }
