# Ends the job in DIRECTORY $1 whole, if it still runs, and clears away what it did not finish: UNIT $2 (or "-"), the DATA
# directory $3 of SERVER $4; what it made goes as USER $5, as whom it was made. What it finished is set aside, never removed.
# Removed are only the directories that the job's record names and that it made itself: the base backup that pg_basebackup
# would have removed, had it been able to (ADR 10). A complete data directory bears the mark of its server and is not among
# them; that of its source is copied with everything else and says nothing.
umask 022
directory=$1 unit=$2 data=$3 server=$4 user=$5
[ -e "$directory/record" ] || { rm -f -- "$directory/record.new"; exit 0; }
is_free() { flock -s -w "$1" "$directory/lock" true; }
if ! is_free 0; then
  if [ "$unit" != - ]; then
    systemctl stop "$unit"
  else
    said=''
    read -r said <"$directory/status" || :
    # The lock is held, so the leader lives or one of its group does: the id is not another's.
    for signal in TERM KILL; do
      group=${said#* }
      case $group in '' | *[!0-9]*) ;; *) kill -s "$signal" -- "-$group" 2>/dev/null ;; esac
      is_free 10 && break
    done
  fi
  is_free 10 || { echo "the job in $directory does not end" >&2; exit 1; }
fi
run=$(sed -n 's/^run //p' "$directory/record")
# A base backup that was finished may be the last copy of something.
finished=0
if [ "$(cat "$directory/status")" = 'ended 0' ] && grep -q '^upstream ' "$directory/record"; then finished=1; fi
# What was rewound in its own place is no copy of anything.
if grep -qx 'kind reuse' "$directory/record"; then finished=1; fi
case $run in '' | *[!0-9a-z]*) echo "the record of $directory names no run" >&2; exit 1 ;; esac
clear() {
  [ -e "$1" ] || [ -L "$1" ] || return 0
  case $1 in *.seed."$run") ;; *) refuse "$1 is left as it is: its name is not one that run $run gave" ;; esac
  case $1 in /*/*) ;; *) refuse "$1 is left as it is: its path is too short" ;; esac
  case $1 in *//* | */./* | */../*) refuse "$1 is left as it is: its path is not plain" ;; esac
  case $data/ in "$1"/*) refuse "$1 is left as it is: it is the data directory" ;; esac
  must_be_still "$1"
  case $finished.${1##*/} in 1.pgstead.seed.*) return 0 ;; esac # A tablespace of what is set aside.
  if [ "$finished" = 1 ] || grep -Fqsx -- "server $server" "$1/pgstead.identity"; then
    aside=${1%.seed.*}.aside.$(date -u +%Y%m%dT%H%M%SZ).$run.interrupted
    as_user mv -nT -- "$1" "$aside" && sync -- "${1%/*}" && return 0
    exit 1
  fi
  as_user rm -rf --one-file-system -- "$1"
}
sed -n 's/^seed //p' "$directory/record" >"$directory/seeds" || exit 1
while IFS= read -r seed; do
  clear "$seed"
done <"$directory/seeds"
rm -f -- "$directory/record" "$directory/seeds" "$directory/status" "$directory/output" "$directory/run" "$directory/lock"
rmdir -- "$directory"
