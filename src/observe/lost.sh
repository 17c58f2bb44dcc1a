# Reads what a server wrote after a position, with pg_waldump, and changes nothing. Arguments:
#   lost USER PROGRAM DATA TIMELINE START
#   names USER PSQL SOCKETS PORT SUPERUSER, then OID/FILENODE of databases and relations
# It answers with the probe's records: lost.transactions, lost.first, lost.last, lost.end, lost.relations; names.tables.
main() {
set -u
export LC_ALL=C
cd / || exit 1
# @@SESSION@@
put() { printf '#%s %s\n%s\n' "$1" "${#2}" "$2"; }
unreadable() { printf '#%s ! %s\n' "$1" "$(printf '%s' "$2" | tr -s '\n\t' ' ' | cut -c 1-400)"; }
me=$(id -un)
verb=$1 user=$2 program=$3
shift 3
as_instance() {
  if [ "$user" = "$me" ]; then "$@"; elif [ "$me" = root ]; then runuser -u "$user" -- "$@"; else
    echo "user $me can become neither root nor $user" >&2
    return 126
  fi
}
case $verb in
  lost)
    # It ends with an error where the WAL ends, which is how a log that was cut off ends.
    summary=$(as_instance "$program" --path "$1/pg_wal" --timeline "$2" --start "$3" 2>&1 | awk '
      match($0, /lsn: [0-9A-F]+\/[0-9A-F]+/) { end = substr($0, RSTART + 5, RLENGTH - 5); seen++ }
      / desc: COMMIT/ {
        commits++
        at = $0; sub(/.* desc: COMMIT[A-Z_]* /, "", at); sub(/;.*/, "", at)
        if (first == "") first = at
        last = at
      }
      match($0, /rel [0-9]+\/[0-9]+\/[0-9]+/) {
        split(substr($0, RSTART + 4, RLENGTH - 4), part, "/")
        if (part[2] != 0) count[part[2] "/" part[3]]++
      }
      /error/ { said = $0 }
      END {
        if (!seen) { print "error " said; exit }
        print "transactions " commits + 0; print "first " first; print "last " last; print "end " end
        for (relation in count) print "relation " relation " " count[relation]
      }')
    case $summary in
      'error '*) unreadable lost.transactions "${summary#error }" ;;
      *)
        for word in transactions first last end; do put "lost.$word" "$(printf '%s\n' "$summary" | sed -n "s/^$word //p")"; done
        put lost.relations "$(printf '%s\n' "$summary" | sed -n 's/^relation //p')" ;;
    esac ;;
  names)
    sockets=$1 port=$2 superuser=$3
    shift 3
    pgstead_session "$("$program" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')"
    ask() { # DATABASE SQL
      as_instance env PGDATABASE="$1" "PGOPTIONS=$PGOPTIONS$pgstead_superuser" PGCONNECT_TIMEOUT=5 "$program" -XAtq -h "$sockets" -p "$port" -U "$superuser" -c "$2" 2>/dev/null
    }
    put names.tables "$(
      ask postgres "SELECT oid || ' ' || datname FROM pg_database WHERE datallowconn" | while read -r oid database; do
        filenodes=''
        for pair in "$@"; do
          case $pair in "$oid"/*[!0-9]*) ;; "$oid"/*) filenodes=$filenodes${filenodes:+,}${pair#*/} ;; esac
        done
        [ -n "$filenodes" ] || continue
        ask "$database" "SELECT '$oid/' || pg_relation_filenode(c.oid) || E'\t' || current_database() || E'\t' || format('%I.%I', nspname, relname)
          FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'm') AND nspname !~ '^(pg_|information_schema)'
          AND pg_relation_filenode(c.oid) IN ($filenodes)" </dev/null
      done)" ;;
esac
put end ok
}
main "$@" </dev/null
