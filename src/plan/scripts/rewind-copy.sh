# Makes a rewound data directory: DATA SEED PROGRAMS CONFIG SOURCE ARCHIVE ASIDE FIRST [TO FROM]... DATA is only read, so that whatever
# happens to this script, and wherever it is killed, DATA is what it was (hazards 68, 72, 73). CONFIG is the instance's
# postgresql.conf ("-": the one in the data directory), SOURCE how pg_rewind reaches its source. ARCHIVE "archive": WAL that is
# missing here is asked of the instance's restore_command (hazard 71).
# With ASIDE and FIRST (else "-") there is no room for a copy, and that was agreed to: DATA itself becomes SEED. Its WAL from
# segment FIRST on, which is all that tells afterwards what only this server had, is copied to ASIDE before.
# Behind these come the locations TO of the source's tablespaces, each with the directory FROM in it that takes the copy.
set -u
data=$1 seed=$2 programs=$3 config=$4 source=$5 archive=$6 aside=$7 first=$8
shift 8
fail() { printf '%s\n' "$1" >&2; exit 1; }
pid=$(head -n 1 -- "$data/postmaster.pid" 2>/dev/null) || :
case $pid in '' | *[!0-9]*) ;; *) [ ! "/proc/$pid/cwd" -ef "$data" ] || fail "process $pid runs in $data" ;; esac
# A link in the copy would lead to what the original uses.
other=$(find "$data" -xdev ! -type f ! -type d ! -path "$data/pg_tblspc/*" ! \( -type l -path "$data/postgresql.auto.conf" \) -print -quit) || fail "could not look through $data"
[ -z "$other" ] || fail "$other is neither a file nor a directory: a copy of $data would share it, and pg_rewind would change it in both"
# What pg_rewind makes of a tablespace that only one of the two has is a link to the place itself.
locations=$(find "$data/pg_tblspc" -mindepth 1 -maxdepth 1 -printf '%l\n' | sort) || exit 1
wanted=$(for place in "$@"; do printf '%s\n' "$place"; done | sed -n 'p;n' | sort)
[ "$locations" = "$wanted" ] || fail "its tablespaces are at $(echo $locations), those of its source at $(echo $wanted): pg_rewind would link to the places themselves. The next run takes a base backup"
# What rotted before the two parted is on neither side's list of changes: it would stay. Every page is read, beside all else
# where the original can be read for that: it was shut down, and stays as it is.
say() { "$programs/pg_controldata" -D "$1" | sed -n "s/^$2: *//p"; }
beside=''
check() { # DIRECTORY
  [ "$(say "$1" 'Data page checksum version')" = 0 ] || "$programs/pg_checksums" --check --pgdata "$1" >/dev/null
}
state=$(say "$data" 'Database cluster state')
case $aside.$state in
  -.'shut down' | -.'shut down in recovery') check "$data" & beside=$! ;;
esac
# Of the WAL that the original has, pg_rewind reads what follows the last checkpoint that both have, and asks for that file by
# file: most of the rest comes from the source once more. What must be recovered first is recovered from its own.
lends=no
case $aside.$state.$data in
  *[!a-zA-Z0-9/._+:@=,\ -]*) ;;
  -.'shut down'.* | -.'shut down in recovery'.*) lends=yes ;;
esac
if [ "$aside" = - ]; then
  mkdir -m 0700 -- "$seed" || exit 1
  # The mark is left out: nothing that is not finished is called complete. So are slots that its successor will not have.
  find "$data" -mindepth 1 -maxdepth 1 ! -name pgstead.identity ! -name pg_replslot ! -name pg_wal ! -name postmaster.pid ! -name postmaster.opts \
    ! -name standby.signal ! -name recovery.signal -exec cp --archive --reflink=auto --target-directory="$seed" -- {} + ||
    fail "could not copy $data"
  mkdir -m 0700 -- "$seed/pg_replslot" "$seed/pg_wal" || exit 1
  lent='*'
  if [ "$lends" = yes ]; then lent='*.history'; fi
  find "$data/pg_wal" -mindepth 1 -maxdepth 1 -name "$lent" -exec cp --archive --reflink=auto --target-directory="$seed/pg_wal" -- {} + ||
    fail "could not copy $data/pg_wal"
  read -r version <"$data/PG_VERSION" || exit 1
  while [ $# -gt 0 ]; do
    to=$1 from=$2
    shift 2
    mkdir -m 0700 -- "$from" || exit 1
    cp --archive --reflink=auto --target-directory="$from" -- "$to/PG_${version}_"* || fail "could not copy $to"
    for link in "$seed"/pg_tblspc/*; do
      [ "$(readlink -- "$link")" != "$to" ] || ln -sfnT -- "$from" "$link" || exit 1
    done
  done
else
  mkdir -m 0700 -- "$aside" "$aside/pg_wal" || exit 1
  for segment in "$data"/pg_wal/????????????????????????; do
    name=${segment##*/}
    # Of the same timeline, and not before the first.
    [ "${name%????????????????}" = "${first%????????????????}" ] || continue
    [ "$(printf '%s\n%s\n' "$first" "$name" | sort | head -n 1)" = "$first" ] || continue
    cp --archive --target-directory="$aside/pg_wal" -- "$segment" || fail "could not keep $segment"
  done
  cp --archive --target-directory="$aside" -- "$data/pgstead.identity" || exit 1
  find "$aside" -type f -exec sync -- {} + && sync -- "$aside/pg_wal" "$aside" "${data%/*}" || exit 1
  mv -T -- "$data" "$seed" && sync -- "${data%/*}" || exit 1
  for name in pgstead.identity postmaster.pid postmaster.opts standby.signal recovery.signal; do rm -f -- "$seed/$name"; done
  for slot in "$seed"/pg_replslot/*; do
    [ ! -d "$slot" ] || { rm -f -- "$slot/state" "$slot"/*.tmp && rmdir -- "$slot"; } || exit 1
  done
fi
# Where nobody shall use ALTER SYSTEM, its file may be a link to nowhere, which pg_rewind refuses; and it writes to every file,
# whoever made one read-only. What the two have in these comes from the source.
if [ -L "$seed/postgresql.auto.conf" ]; then rm -f -- "$seed/postgresql.auto.conf"; fi
find "$seed" -xdev ! -type l ! -perm -u+w -exec chmod u+w -- {} + || fail "could not make the files of $seed writable"
[ "$config" != - ] || config=$seed/postgresql.conf
case $(say "$seed" 'Database cluster state') in
  'shut down' | 'shut down in recovery') ;;
  *)
    # It was killed. Only the copy is recovered, and nothing of that gets into an archive (hazard 72).
    "$programs/postgres" --single -F -D "$seed" -c config_file="$config" -c data_directory="$seed" -c archive_mode=off \
      -c restore_command= -c logging_collector=off -c log_destination=stderr template1 </dev/null >/dev/null ||
      fail "the copy could not be recovered to a clean end" ;;
esac
damaged='the data directory is damaged: pages failed their checksums'
[ -n "$beside" ] || check "$seed" || fail "$damaged"
set --
if [ "$archive.$lends" != -.no ]; then
  # The server's own configuration names its place; what is asked for here is the copy.
  printf "include '%s'\ndata_directory = '%s'\n" "$config" "$seed" >"$seed/pgstead-rewind.conf" || exit 1
  if [ "$lends" = yes ]; then
    command="cp -- \"$data/pg_wal/%f\" \"%p\""
    if [ "$archive" = archive ]; then
      archived=$("$programs/postgres" -D "$seed" -c config_file="$seed/pgstead-rewind.conf" -C restore_command) || exit 1
      command="$command 2>/dev/null || { $archived; }"
    fi
    printf "restore_command = '%s'\n" "$(printf '%s' "$command" | sed "s/\\\\/&&/g; s/'/''/g")" >>"$seed/pgstead-rewind.conf" || exit 1
  fi
  set -- --restore-target-wal --config-file="$seed/pgstead-rewind.conf"
fi
"$programs/pg_rewind" --target-pgdata "$seed" --source-server "$source" --no-ensure-shutdown --progress "$@" || exit 1
[ -z "$beside" ] || wait "$beside" || fail "$damaged"
# The source's own mark came along.
rm -f -- "$seed/pgstead.identity" "$seed/pgstead-rewind.conf"
