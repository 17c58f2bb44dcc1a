# stand-down DATA CONTROLDATA SECONDS: shuts the primary in DATA down as fast mode does, and says what its control file says then:
# the shutdown checkpoint is what its successor must have (hazard 62). Never in immediate mode, which writes no such checkpoint
# (hazard 63). Where nothing runs it only says it, and when that checkpoint was written: nobody could write since, at the latest.
# The signal goes to the postmaster itself: pg_ctl and the programs of the units look ten times a second whether it has ended, and
# nobody can write meanwhile.
set -u
# A locale with a decimal comma writes times with it.
export LC_ALL=C
data=$1 controldata=$2 seconds=$3
pid=none
IFS= read -r pid 2>/dev/null <"$data/postmaster.pid"
begun=$(date +%s%3N)
# The file of a postmaster that was killed names a process that is gone, or another's (hazard 3).
if [ "/proc/$pid/cwd" -ef "$data" ]; then
  kill -INT "$pid" || exit 1
  end=$(($(date +%s) + seconds))
  # One that has ended and was not waited for by its parent is still a process to whoever asks for it by number.
  until timeout 0.1 tail --sleep-interval=0.003 --pid="$pid" -f /dev/null || ! [ "/proc/$pid/cwd" -ef "$data" ]; do
    [ "$(date +%s)" -ge "$end" ] || continue
    echo "the instance in $data has not ended $seconds s after its fast shutdown was requested; what is left of it:"
    for child in $(cat "/proc/$pid/task/$pid/children"); do tr '\0' ' ' <"/proc/$child/cmdline"; echo; done
    exit 75
  done >&2
  echo "stopped in $(($(date +%s%3N) - begun)) ms"
else
  written=$(stat -c %.3Y "$data/global/pg_control") || exit 1
  echo "stopped $((begun - ${written%.*}${written#*.})) ms ago"
fi
exec "$controldata" -D "$data"
