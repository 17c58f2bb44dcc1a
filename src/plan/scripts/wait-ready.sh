#!/bin/sh
# wait-ready DATA SECONDS LOG [UNIT]: waits until the instance in DATA accepts connections, written by pgstead. One that replays
# WAL is waited for as long as it takes: SECONDS is how long it may replay one segment.
# The postmaster says so itself in line 8 of postmaster.pid (miscinit.h), which is there sooner than any service manager knows.
set -u
data=$1 seconds=$2 log=$3 unit=${4-}
end=$(($(date +%s) + seconds))
turn=0
said=${0%/*}/start-refused
orphaned=0
# Says whether the unit has given up: it neither runs nor is about to, and no start of it is waiting. Or whether it waits for
# nobody: a postmaster that is killed before the manager has read its PID file leaves a start that never ends by itself.
given_up() {
  shown=$(systemctl show -p ActiveState -p Job -p ControlPID -p MainPID "$unit")
  job='' state=unknown control=0 main=0
  while IFS='=' read -r name value; do
    case $name in ActiveState) state=$value ;; Job) job=$value ;; ControlPID) control=$value ;; MainPID) main=$value ;; esac
  done <<END
$shown
END
  # Where no job waits, some versions show none and some show 0.
  case ${job:-0}.$state in 0.failed | 0.inactive) return 0 ;; esac
  case $state.$control.$main in activating.0.0) orphaned=$((orphaned + 1)) ;; *) orphaned=0 ;; esac
  [ "$orphaned" -ge 3 ] || return 1
  state='activating for good: no process of it is left'
}
# Says whether no process works in the data directory: nobody is about to make a postmaster.pid there.
has_ended() {
  for process in /proc/[0-9]*; do
    if [ "$process/cwd" -ef "$data" ]; then return 1; fi
  done
}
# Says which segment the startup process replays: its title ends with that.
replayed=''
replays() {
  was=$replayed
  for child in $(cat "/proc/$pid/task/$pid/children" 2>/dev/null); do
    title=$(tr '\0' ' ' <"/proc/$child/cmdline") 2>/dev/null
    case $title in *startup*recovering*) title=${title##*recovering } replayed=${title%% *} ;; esac
  done
  [ "$replayed" != "$was" ]
}
while :; do
  pid=none
  if [ -e "$data/postmaster.pid" ]; then
    number=0
    status='no status yet'
    while IFS= read -r line; do
      number=$((number + 1))
      case $number in 1) pid=$line ;; 8) status=$line ;; esac
    done <"$data/postmaster.pid" 2>/dev/null
    # A postmaster that was killed leaves its file behind, with its last word in it (hazard 3).
    [ "/proc/$pid/cwd" -ef "$data" ] || status='postmaster.pid of a process that is gone'
    case $status in ready*) exit 0 ;; esac
  else
    status='no postmaster.pid'
  fi
  turn=$((turn + 1))
  # What is refused, is refused at once; a start that goes well is not asked about so soon.
  if [ "$turn" = 12 ] || [ $((turn % 50)) = 0 ]; then
    case $status in 'no postmaster.pid' | *'is gone')
      if [ -n "$unit" ]; then
        if given_up; then status="unit $unit is $state"; break; fi
      elif [ "$turn" -ge 500 ] && has_ended; then
        status='no process of it is left'
        break
      fi ;;
    esac
    now=$(date +%s)
    if replays; then end=$((now + seconds)); fi
    [ "$now" -lt "$end" ] || break
  fi
  sleep 0.01
done
# The guard takes its words back when it lets an instance start, so these are about this start.
if [ -r "$said" ]; then cat "$said" >&2; exit 1; fi
echo "the instance in $data does not accept connections, and has not got on for $seconds s at most; last seen: $status${replayed:+, replaying segment $replayed}" >&2
[ -r "$log" ] && { echo "the end of $log:"; tail -n 12 "$log"; } >&2
exit 1
