# Removes a directory that was set aside, for good: ASIDE DATA OWN RUN MARK USER. The one removal of a data directory that pgstead knows.
# It gets its other name first, ASIDE.forgotten: a removal that was interrupted is recognised by it and finished by this same
# script. It goes as USER, whose directory it stands in: whoever swaps a part of it for a link loses only what USER could remove.
# MARK, the text of a pgstead.identity, says whose it is for as long as anything of it is left.
aside=$1 data=$2 own=$3 run=$4 mark=$5 user=$6
must_hold_lock "$own" "$run"
case $aside in "$data".aside.?*) ;; *) refuse "$aside does not stand beside $data" ;; esac
case ${aside#"$data"} in */* | *.forgotten) refuse "$aside is not a name of what was set aside" ;; esac
gone=$aside.forgotten
if [ -e "$gone" ] || [ -L "$gone" ]; then
  if [ -e "$aside" ] || [ -L "$aside" ]; then refuse "both $aside and $gone are there"; fi
  at=$gone
else
  at=$aside
fi
# Nothing of the data directory may be in it: neither itself, nor its WAL, nor a tablespace, nor what pgstead keeps.
must_not_hold() { # PATH
  inside=$(readlink -f -- "$1") || return 0
  case $inside/ in "$real"/*) refuse "$1 is in $at" ;; esac
}
must_be_still "$at"
for used in "$data" "$own" "$data"/pg_wal "$data"/pg_tblspc/*; do must_not_hold "$used"; done
if [ "$at" = "$aside" ]; then
  as_user mv -T -- "$aside" "$gone" || exit 74
  sync -- "${gone%/*}/" || exit 74
  # Nobody can start it by its old name any more; whoever did until now is seen under the new one.
  real=$(readlink -f -- "$gone") || exit 74
  pid=$(process_in "$real")
  if [ -n "$pid" ]; then
    as_user mv -T -- "$gone" "$aside"
    refuse "process $pid works in $aside"
  fi
fi
if [ ! -e "$gone/pgstead.identity" ] && [ -n "$(ls -A -- "$gone")" ]; then
  printf '%s' "$mark" | as_user dd conv=excl,fsync of="$gone/pgstead.identity" status=none || exit 74
fi
as_user find "$gone" -mindepth 1 -maxdepth 1 ! -name pgstead.identity -exec rm -rf --one-file-system -- {} + || exit 74
as_user rm -f -- "$gone/pgstead.identity" && as_user rmdir -- "$gone" && sync -- "${gone%/*}/"
