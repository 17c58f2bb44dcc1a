# Starts a long command detached: it outlives the connection, and the next run finds it, waits for it or ends it whole
# (hazards 17, 21). What is known of it stands in a directory: its record, its lock, its last word and what it said.
# Arguments: DIRECTORY USER UNIT VERIFIER, pairs of a word and a value for the record, "--", the command.
#   UNIT      a transient unit's name; "-": a process group of its own
#   VERIFIER  the program that checks the first "seed" of the record after the command; "-": none
# The job holds the lock for as long as one process of it lives, which the kernel sees to, so that no process id is trusted.
set -u
umask 022
directory=$1 user=$2 unit=$3 verifier=$4
shift 4
# Only what someone else owns needs to be given away.
give() { [ "$(id -un)" = "$user" ] || chown -- "$user:" "$@"; }
mkdir -p -- "$directory" || exit 1
[ -e "$directory/lock" ] || { : >"$directory/lock" && give "$directory/lock"; } || exit 1
flock -s -w 5 "$directory/lock" true || { echo "a job in $directory still runs" >&2; exit 75; }
: >"$directory/record.new" || exit 1
seed=-
while [ "$1" != -- ]; do
  printf '%s %s\n' "$1" "$2" >>"$directory/record.new" || exit 1
  if [ "$1" = seed ] && [ "$seed" = - ]; then seed=$2; fi
  shift 2
done
shift
# What a session of ours is like is told as a function, which is defined before this script begins.
printf '%s\npgstead_session\n' "$pgstead_session" >"$directory/run" || exit 1
cat >>"$directory/run" <<'RUN' || exit 1
# Written by pgstead: DIRECTORY VERIFIER SEED COMMAND…
directory=$1 verifier=$2 seed=$3
shift 3
umask 077
# What it says is read, and shown to whoever helps.
export LC_ALL=C
exec 9>>"$directory/lock" && flock 9 || exit 75
# What each network card has received; compression is on the line alone, so that no program knows how much that was.
received() { for card in /sys/class/net/*; do [ "${card##*/}" = lo ] || echo "${card##*/} $(cat "$card/statistics/rx_bytes")"; done; }
before=$(received 2>/dev/null)
echo "running $$" >"$directory/status"
"$@" >"$directory/output" 2>&1
status=$?
# The card by which most arrived: a bridge counts again what its cards have counted.
[ "$status" != 0 ] || { echo "$before"; received 2>/dev/null; } | awk '
  $1 in first { came = $2 - first[$1]; if (came > most) most = came; next }
  { first[$1] = $2 }
  END { if (most > 0) print "received " most " bytes" }' >>"$directory/output"
if [ "$status" = 0 ] && [ "$verifier" != - ]; then
  echo "verifying $$" >"$directory/status"
  "$verifier" --quiet "$seed" >>"$directory/output" 2>&1
  status=$?
fi
echo "ended $status" >"$directory/status"
# A killed pg_basebackup leaves its WAL receiver behind, which would go on for ever (hazard 17).
[ "$status" = 0 ] || { trap '' TERM; kill -s TERM -- "-$$"; }
exit "$status"
RUN
: >"$directory/status" && : >"$directory/output" && give "$directory/status" "$directory/output" || exit 1
# The record is there before anything else is: what it names is ours to clear away.
sync -- "$directory/record.new" && mv -f -- "$directory/record.new" "$directory/record" && sync -- "$directory" || exit 1
if [ "$unit" = - ]; then
  setsid sh "$directory/run" "$directory" "$verifier" "$seed" "$@" </dev/null >/dev/null 2>&1 9>&- &
else
  # The manager puts variables of its own in for $NAME and ${NAME} (systemd.service, "Command lines"); $$ is one dollar.
  left=$#
  while [ "$left" -gt 0 ]; do
    word=$(printf '%s.' "$1" | sed 's/\$/$$/g')
    set -- "$@" "${word%.}"
    shift
    left=$((left - 1))
  done
  # The unit of a job that failed may still be loaded for a moment.
  systemd-run --quiet --collect --service-type=exec --unit="$unit" --uid="$user" --property=KillMode=control-group \
    --property=TimeoutStopSec=10 /bin/sh "$directory/run" "$directory" "$verifier" "$seed" "$@"
fi
