# Waits until the job in DIRECTORY $1 has ended and nothing of it is left, and ends with its status; UNIT $2, or "-".
# It waits for the lock that the job holds: for an event, however long it takes.
set -u
directory=$1 unit=$2
turn=0
while :; do
  said=''
  read -r said <"$directory/status" || :
  case $said in
    'ended '*) break ;;
    'running '* | 'verifying '*)
      flock -s "$directory/lock" true
      now=''
      read -r now <"$directory/status" || :
      case $now in 'ended '*) ;; *) break ;; esac ;;
    *)
      # It was started and has not said a word yet: that takes milliseconds.
      turn=$((turn + 1))
      [ "$turn" -lt 1000 ] || break
      sleep 0.01 ;;
  esac
done
case $said in
  'ended '*) status=${said#ended } ;;
  *) status=70; echo "it ended without a result: it was killed, or its machine was restarted" >&2 ;;
esac
flock -s -w 20 "$directory/lock" true || { echo "processes of it are left" >&2; status=71; }
# What it copied stands in its last lines.
if [ "$status" = 0 ]; then tail -n 5 "$directory/output"; else tail -n 20 "$directory/output" >&2; fi
exit "$status"
