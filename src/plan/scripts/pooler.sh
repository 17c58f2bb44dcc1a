# Tells PgBouncer's console something: pooler.sh pause|resume|reload|point PSQL SOCKET PORT SECONDS DATABASE…
#   pause   clients of these databases wait, once their transactions have ended; it fails where those do not end in time
#   resume  they go on; those that do not wait are left alone
#   reload  the configuration is read anew
#   point   both: it is read anew, and they go on
# DATABASE is quoted as the console reads it. It runs as the user that PgBouncer runs as, whom the console admits over the socket.
set -u
what=$1 psql=$2 socket=$3 port=$4 seconds=$5
shift 5
# Nothing of libpq is inherited. The console takes none of the options that a session of PostgreSQL has.
for name in $(env | sed -n 's/^\(PG[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done
export PGCONNECT_TIMEOUT=5
limit='' first=''
console() {
  ${limit:+timeout "$limit"} "$psql" -XAtqw -v ON_ERROR_STOP=1 -h "$socket" -p "$port" -U pgbouncer -d pgbouncer "$@"
}
together() { # VERB DATABASE…: over one connection
  verb=$1
  shift
  n=$#
  for name in "$@"; do set -- "$@" -c "$verb $name"; done
  shift "$n"
  console $first "$@"
}
resume_each() {
  for name in "$@"; do
    said=$(console -c "RESUME $name" 2>&1) || case $said in *'is not paused'*) ;; *) echo "$said" >&2; return 1 ;; esac
  done
}
case $what in
  pause)
    limit=$seconds
    together PAUSE "$@"
    status=$?
    # What is given up goes on being paused: whoever asked for it takes it back.
    if [ "$status" = 124 ]; then echo "transactions are still under way after $seconds s" >&2; fi
    exit "$status" ;;
  resume) resume_each "$@" ;;
  reload) console -c RELOAD ;;
  point)
    first='-c RELOAD'
    together RESUME "$@" 2>/dev/null && exit 0
    # Not all of them wait.
    console -c RELOAD && resume_each "$@" ;;
esac
