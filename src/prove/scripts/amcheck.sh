# Runs pg_amcheck on databases of a local instance, one after the other, each for at most so many seconds; it only reads.
# Arguments: SECONDS BIN SOCKET PORT OS_USER ROLE DATABASE…
# It answers with records "#NAME LENGTH" as the probe does: for the first database status.0 and said.0, and so on.
main() {
set -u
export LC_ALL=C
cd / || exit 1
# @@SESSION@@
put() { printf '#%s %s\n%s\n' "$1" "${#2}" "$2"; }
limit=$1 bin=$2 socket=$3 port=$4 user=$5 role=$6
shift 6
me=$(id -un)
as_instance() {
  if [ "$user" = "$me" ]; then "$@"; elif [ "$me" = root ]; then runuser -u "$user" -- "$@"; else
    echo "user $me can become neither root nor $user" >&2
    return 126
  fi
}
pgstead_session "$("$bin/psql" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')"
PGOPTIONS=$PGOPTIONS$pgstead_superuser
number=0
for database in "$@"; do
  said=$(as_instance timeout -k 10 "$limit" "$bin/pg_amcheck" --heapallindexed --no-password \
    --host "$socket" --port "$port" --username "$role" "$database" 2>&1)
  put "status.$number" "$?"
  put "said.$number" "$(printf '%s' "$said" | head -c 2000)"
  number=$((number + 1))
done
put end ok
}
main "$@" </dev/null
