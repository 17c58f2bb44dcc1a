# Reads what a server has of the write-ahead log that was asked about, and changes nothing. Arguments:
#   USER DATA, then groups: history TIMELINE FILE, hash LABEL BYTES FILE (names in pg_wal)
# It answers with the probe's records: history.TIMELINE with the text, hash.LABEL.FILE with the SHA-256 of the first BYTES.
main() {
set -u
export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
cd / || exit 1
put() { printf '#%s %s\n%s\n' "$1" "${#2}" "$2"; }
absent() { printf '#%s -\n' "$1"; }
unreadable() { printf '#%s ! %s\n' "$1" "$(printf '%s' "$2" | tr -s '\n\t' ' ' | cut -c 1-400)"; }
me=$(id -un)
user=$1 wal=$2/pg_wal
shift 2
as_instance() {
  if [ "$user" = "$me" ]; then "$@"; elif [ "$me" = root ]; then runuser -u "$user" -- "$@"; else
    echo "user $me can become neither root nor $user" >&2
    return 126
  fi
}
while [ $# -gt 0 ]; do
  case $1 in
    history)
      if ! said=$(as_instance ls -A "$wal/" 2>&1 >/dev/null); then unreadable "history.$2" "$said"
      elif [ ! -e "$wal/$3" ]; then absent "history.$2"
      elif text=$(as_instance cat "$wal/$3" 2>&1); then put "history.$2" "$text"; else unreadable "history.$2" "$text"; fi
      shift 3 ;;
    hash)
      # A segment that is recycled while it is read gets another name: what was read then is worth nothing.
      if ! said=$(as_instance ls -A "$wal/" 2>&1 >/dev/null); then unreadable "hash.$2.$4" "$said"
      elif ! before=$(stat -L -c '%i %s' "$wal/$4" 2>/dev/null) || [ "${before#* }" -lt "$3" ]; then absent "hash.$2.$4"
      elif ! hash=$(as_instance head -c "$3" "$wal/$4" 2>/dev/null | sha256sum); then unreadable "hash.$2.$4" "could not read $wal/$4"
      elif [ "$(stat -L -c '%i %s' "$wal/$4" 2>/dev/null)" != "$before" ]; then absent "hash.$2.$4"
      else put "hash.$2.$4" "${hash%% *}"; fi
      shift 4 ;;
    *) shift ;;
  esac
done
put end ok
}
main "$@" </dev/null
