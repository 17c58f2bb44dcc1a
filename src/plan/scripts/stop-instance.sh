# stop-instance DATA SECONDS LAST USER [UNIT]: stops the instance in DATA as fast mode does. One that has not ended after SECONDS is
# ended as immediate mode does, if LAST says so, and named with its processes otherwise. USER owns it, and names its process: only processes of USER get a signal (owner.sh).
data=$1 seconds=$2 last=$3 user=$4 unit=${5-}
signal() { as_user sh -c 'kill -s "$1" -- "$2"' sh "$1" "$pid"; }
pid=none
IFS= read -r pid 2>/dev/null <"$data/postmaster.pid"
# The file of a postmaster that was killed names a process that is gone, or another's (hazard 3).
runs() { [ "/proc/$pid/cwd" -ef "$data" ]; }
has_ended() { # SECONDS
  end=$(($(date +%s) + $1))
  while runs; do
    [ "$(date +%s)" -lt "$end" ] || return 1
    sleep 0.02
  done
}
if runs; then
  state=none
  [ -z "$unit" ] || state=$(systemctl show --property ActiveState --value "$unit")
  # A unit stops what it started. One that is not active does not know the instance: it still starts, or somebody else did it.
  case $state in
    active) systemctl stop --no-block "$unit" || exit 1 ;;
    *) signal INT ;;
  esac
  if ! has_ended "$seconds"; then
    echo "the instance in $data has not ended $seconds s after its fast shutdown was requested; what is left of it:"
    for child in $(cat "/proc/$pid/task/$pid/children"); do tr '\0' ' ' <"/proc/$child/cmdline"; echo; done
    if [ "$last" != immediate ]; then echo "end what holds it, or the instance itself with pg_ctl stop -m immediate"; exit 1; fi
    echo "it is ended without a checkpoint"
    signal QUIT
    # One that stands still hears nothing before it goes on.
    signal CONT
    has_ended 30 || { echo "it has not ended 30 s after that"; exit 1; }
  fi >&2
fi
# The manager has its end from itself; a start that it still waits for is over.
[ -z "$unit" ] || systemctl stop "$unit"
