# Stands before the commands of a step, in the same execution: DIRECTORY RUN (as in the JSON text) LINE...
# Exit 9, with the lock's text, unless RUN still holds the lock: a run that slept past its lease acts no more (hazard 4).
# Else the lease is renewed and the lines go into the audit log, the step's beginning among them.
set -u
umask 022
directory=$1 run=$2
shift 2
exec 9<"$directory"
flock -w 20 9 || { echo "the lock in $directory could not be looked at: somebody else does so for 20 s" >&2; exit 1; }
held=''
[ ! -e "$directory/lock" ] || IFS= read -r held <"$directory/lock"
case $held in *"$run"*) ;; *) printf '%s\n' "$held"; exit 9 ;; esac
touch -c -- "$directory/lock" || exit 1
[ $# = 0 ] || printf '%s\n' "$@" >>"$directory/audit.jsonl"
