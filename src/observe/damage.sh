# Looks for files that must be in a data directory and are not, and changes nothing. Arguments:
#   USER DATA, and where an instance runs in it PSQL SOCKETS PORT SUPERUSER
# It answers with the probe's record "damage": a line for each finding, none where nothing is missing. It reads names, not pages.
main() {
set -u
export LC_ALL=C
cd / || exit 1
# @@SESSION@@
put() { printf '#%s %s\n%s\n' "$1" "${#2}" "$2"; }
unreadable() { printf '#%s ! %s\n' "$1" "$(printf '%s' "$2" | tr -s '\n\t' ' ' | cut -c 1-400)"; }
me=$(id -un)
user=$1 data=$2
shift 2
as_instance() {
  if [ "$user" = "$me" ]; then "$@"; elif [ "$me" = root ]; then runuser -u "$user" -- "$@"; else
    echo "user $me can become neither root nor $user" >&2
    return 126
  fi
}
# A relation is a chain of files: N, N.1, N.2; what lies beside it, N_fsm and N_vm, does not come without it. A file may go
# while the list is made, as that of a dropped table does: what is missing must still be missing.
gaps() {
  as_instance find -L "$data/global" "$data/base" "$data/pg_tblspc" -regextype posix-extended \
    -regex '.*/[0-9]+((_fsm|_vm)?(\.[0-9]+)?|_init)' -type f -printf '%p\n' | awk -v data="$data" '
    { there[$0] = 1 }
    END {
      for (path in there) {
        name = path; sub(/.*\//, "", name)
        if (match(path, /\.[0-9]+$/)) {
          number = substr(path, RSTART + 1); stem = substr(path, 1, RSTART - 1)
          before = number > 1 ? stem "." (number - 1) : stem
        } else if (match(path, /_(fsm|vm)$/)) {
          before = substr(path, 1, RSTART - 1)
          # An unlogged table of a standby has its first fork alone.
          if ((before "_init") in there) continue
        } else continue
        if (!(before in there)) print before " is missing, and " name " is there."
      }
    }' | while IFS= read -r line; do
      [ -e "${line%% is missing,*}" ] || printf '%s\n' "$line"
    done
}
needed() {
  for name in PG_VERSION global/pg_control global/pg_filenode.map pg_xact pg_multixact/members pg_wal; do
    as_instance test -e "$data/$name" || printf '%s is missing.\n' "$data/$name"
  done
  as_instance find "$data/base" -mindepth 1 -maxdepth 1 -type d -name '[0-9]*' | while read -r directory; do
    for name in PG_VERSION pg_filenode.map; do
      as_instance test -e "$directory/$name" || ! as_instance test -d "$directory" || printf '%s is missing.\n' "$directory/$name"
    done
  done
}
relations() { # PSQL SOCKETS PORT SUPERUSER
  ask() { as_instance env PGDATABASE="$1" "PGOPTIONS=$PGOPTIONS$pgstead_superuser" PGCONNECT_TIMEOUT=5 "$psql" -XAtq -h "$2" -p "$3" -U "$4" -c "$5" 2>/dev/null </dev/null; }
  psql=$1
  pgstead_session "$("$psql" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')"
  ask postgres "$2" "$3" "$4" "SELECT datname FROM pg_database WHERE datallowconn" | while IFS= read -r database; do
    ask "$database" "$2" "$3" "$4" "SELECT format('%s of %s in database \"%s\" is missing.', pg_relation_filepath(oid), oid::regclass, current_database())
      FROM pg_class WHERE pg_relation_filenode(oid) IS NOT NULL AND relkind IN ('r', 'i', 't', 'm', 'S') AND relpersistence = 'p'
      AND (pg_stat_file(pg_relation_filepath(oid), true)).size IS NULL LIMIT 20"
  done
}
if [ ! -e "$data/PG_VERSION" ] && [ ! -d "$data/global" ]; then printf '#damage -\n'
elif ! said=$(as_instance ls -A "$data/global" "$data/base" 2>&1 >/dev/null); then unreadable damage "$said"
else
  put damage "$(
    needed
    gaps | sort
    [ $# -lt 4 ] || relations "$@"
  )"
fi
put end ok
}
main "$@" </dev/null
