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
# Prints the bytes of a segment, and a position a few pages before another one, in the segment of the byte before that.
before() { # WAL TIMELINE LSN
  size=''
  for file in "$1/$(printf %08X "$2")"????????????????; do size=$(stat -L -c %s "$file" 2>/dev/null) || size=''; break; done
  case ${size:-0} in 0 | *[!0-9]*) size=16777216 ;; esac
  low=$((0x${3#*/})) high=$((0x${3%/*}))
  if [ "$high" = 0 ] && [ "$low" = 0 ]; then echo "$size $3"; return; fi
  # The byte before it may be in the log file before.
  if [ "$low" = 0 ]; then low=$((0xFFFFFFFF)) high=$((high - 1)); else low=$((low - 1)); fi
  page=$((low / 8192 * 8192 - 7 * 8192)) segment=$((low / size * size))
  [ "$page" -ge "$segment" ] || page=$segment
  printf '%s %X/%08X\n' "$size" "$high" "$page"
}
# Prints the names of the segments with a position and of the last one that there is: named, they are read whatever else the
# directory lists. pg_waldump would take their size from what it finds first, and one that was only made ready tells none.
segments() { # WAL TIMELINE LSN SIZE
  printf '%08X%08X%08X\n' "$2" "$((0x${3%/*}))" "$((0x${3#*/} / $4))"
  last=''
  for file in "$1/$(printf %08X "$2")"????????????????; do [ ! -e "$file" ] || last=${file##*/}; done
  [ -z "$last" ] || echo "$last"
}
# Prints what was written in its turn behind a position where the log cannot be read on. A page names its own position, and one
# that was only made ready, or was used before, names none or another (xlog_internal.h, xlp_pageaddr). A record names the
# position of the one before it (xlogrecord.h, xl_prev); where that one is all zeros, it was never finished, nor acknowledged.
beyond() { # WAL TIMELINE POSITION
  as_instance sh -c '
    wal=$1/$(printf %08X "$2") page=$((($3 + 8191) / 8192 * 8192))
    for file in "$wal"????????????????; do
      size=$(stat -L -c %s "$file" 2>/dev/null) || exit 0
      break
    done
    [ "$size" -gt 0 ] || exit 0
    high=$((page / 4294967296)) low=$((page % 4294967296))
    here=$(printf "%08X%08X" "$high" "$((low / size))")
    last=$(printf "%08X%08X" "$(($3 / 4294967296))" "$(($3 % 4294967296 / size))")
    if [ "$(($3 % 8192))" != 0 ] && [ -e "$wal$last" ]; then
      echo "record $(($3 / 4294967296)) $(($3 % 4294967296))"
      od -An -v -tx8 -w8 -j "$(($3 % size))" -N "$((8192 - $3 % 8192))" "$wal$last"
    fi
    if [ -e "$wal$here" ]; then
      echo "at $high $low"
      od -An -v -tx8 -w8192 -j "$((low % size))" "$wal$here" | cut -c 1-34
    fi
    for file in "$wal"????????????????; do
      name=${file#"$wal"}
      [ "$name" \> "$here" ] || continue
      echo "at $((0x${name%????????})) $((0x${name#????????} * size))"
      od -An -v -tx8 -N 16 "$file"
    done' sh "$1" "$2" "$3" 2>/dev/null | awk '
    function half(n) { return sprintf("%04x%04x", int(n / 65536), n % 65536) }
    $1 == "at" { is_page = 1; high = $2; low = $3; next }
    $1 == "record" { position = half($2) half($3); high = $2; low = $3; is_begun = -1; next }
    !is_page && is_begun < 0 { is_begun = $1 !~ /^0*$/; low += 8; next }
    !is_page {
      if (is_begun && $1 == position) { printf "%X/%s\n", high, toupper(half(low - 8)); exit }
      low += 8; next
    }
    $2 == half(high) half(low) { printf "%X/%s\n", high, toupper(half(low)); exit }
    { low += 8192 }'
}
case $verb in
  lost)
    # From a few pages before the position on: that the record which ends there is here shows that this log reaches it. It ends
    # with an error where the WAL ends, which is how a log that was cut off ends.
    from=$(before "$1/pg_wal" "$2" "$3")
    # shellcheck disable=SC2046 # Names of segments are words.
    summary=$(as_instance "$program" --path "$1/pg_wal" --start "${from#* }" \
      $(segments "$1/pg_wal" "$2" "${from#* }" "${from%% *}") 2>&1 |
      awk -v start="$3" -v size="${from%% *}" '
      function number(lsn,  part, n, i) {
        split(lsn, part, "/"); n = 0
        lsn = toupper(part[1] substr("00000000" part[2], length(part[2]) + 1))
        for (i = 1; i <= length(lsn); i++) n = n * 16 + index("0123456789ABCDEF", substr(lsn, i, 1)) - 1
        return n
      }
      # A record goes on behind the head of each page, which is longer in the first one of a segment (xlog_internal.h).
      function behind(at, bytes,  room, head) {
        for (head = 0; ; head = at % size ? 24 : 40) {
          room = 8192 - at % 8192 - head
          if (bytes <= room) return int((at + head + bytes + 7) / 8) * 8
          bytes -= room; at += 8192 - at % 8192
        }
      }
      BEGIN { limit = number(start) }
      match($0, /lsn: [0-9A-F]+\/[0-9A-F]+/) {
        end = substr($0, RSTART + 5, RLENGTH - 5); at = number(end)
        bytes = 0
        if (match($0, /len \(rec\/tot\): *[0-9]+\/ *[0-9]+/)) { bytes = substr($0, RSTART, RLENGTH); sub(/.*\/ */, "", bytes) }
        upto = behind(at, bytes + 0)
        if (upto == limit) reached = 1
        if (at < limit) next
        seen++
      }
      !seen && !/error/ { next }
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
        if (!seen && !reached) { print "error " said; exit }
        print "transactions " commits + 0; print "first " first; print "last " last; print "end " (seen ? end : start)
        printf "upto %.0f\n", upto
        for (relation in count) print "relation " relation " " count[relation]
      }')
    case $summary in
      'error '*) unreadable lost.transactions "it does not reach $3: ${summary#error }" ;;
      *)
        upto=$(printf '%s\n' "$summary" | sed -n 's/^upto //p')
        beyond=$(beyond "$1/pg_wal" "$2" "$upto")
        if [ -n "$beyond" ]; then
          unreadable lost.transactions "there is WAL at $beyond, behind a record that cannot be read; what lies between is damaged"
        else
          for word in transactions first last end; do put "lost.$word" "$(printf '%s\n' "$summary" | sed -n "s/^$word //p")"; done
          put lost.relations "$(printf '%s\n' "$summary" | sed -n 's/^relation //p')"
        fi ;;
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
