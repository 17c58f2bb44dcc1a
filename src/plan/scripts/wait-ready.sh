#!/bin/sh
# wait-ready DATA SECONDS LOG [UNIT]: waits until the instance in DATA accepts connections, written by pgstead.
# The postmaster says so itself in line 8 of postmaster.pid (miscinit.h), which is there sooner than any service manager knows.
set -u
data=$1 seconds=$2 log=$3 unit=${4-}
end=$(($(date +%s) + seconds))
turn=0
status='no postmaster.pid'
while :; do
  if [ -e "$data/postmaster.pid" ]; then
    number=0 pid=none
    status='no status yet'
    while IFS= read -r line; do
      number=$((number + 1))
      case $number in 1) pid=$line ;; 8) status=$line ;; esac
    done <"$data/postmaster.pid" 2>/dev/null
    # A postmaster that was killed leaves its file behind, with its last word in it (hazard 3).
    [ "/proc/$pid/cwd" -ef "$data" ] || status='postmaster.pid of a process that is gone'
    case $status in ready*) exit 0 ;; esac
  fi
  turn=$((turn + 1))
  if [ $((turn % 50)) = 0 ]; then
    if [ -n "$unit" ] && [ ! -e "$data/postmaster.pid" ]; then
      state=$(systemctl show -P ActiveState "$unit")
      case $state in active | activating | reloading) ;; *) status="unit $unit is $state"; break ;; esac
    fi
    [ "$(date +%s)" -lt "$end" ] || break
  fi
  sleep 0.01
done
echo "the instance in $data does not accept connections after $seconds s at most; last seen: $status" >&2
[ -r "$log" ] && { echo "the end of $log:"; tail -n 12 "$log"; } >&2
exit 1
