# break-instance DATA WHAT: breaks an instance on purpose, in a lab. WHAT is "kill": the postmaster gets SIGKILL, as in a crash; or
# "control": besides, its control file is moved out of its place. Nothing is removed.
set -u
data=$1 what=$2
pid=none
IFS= read -r pid 2>/dev/null <"$data/postmaster.pid"
if ! [ "/proc/$pid/cwd" -ef "$data" ]; then
  echo "no instance runs in $data" >&2
  exit 1
fi
children=$(cat "/proc/$pid/task/$pid/children")
kill -KILL "$pid" || exit 1
# Its children see that it is gone, and end; one that serves a client may take until it looks up.
for child in $pid $children; do
  turn=0
  while [ -e "/proc/$child/cwd" ] && [ "/proc/$child/cwd" -ef "$data" ]; do
    turn=$((turn + 1))
    if [ "$turn" -gt 500 ]; then echo "process $child of the instance has not ended" >&2; exit 1; fi
    sleep 0.01
  done
done
case $what in
  kill) ;;
  control) mv -n -- "$data/global/pg_control" "$data/global/pg_control.lost-in-a-drill" ;;
  *) echo "$what is nothing that can be broken" >&2; exit 1 ;;
esac
